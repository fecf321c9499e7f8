#include "lwip.h"

#include <lwip/sys.h>

static err_t on_connected(void *io, struct tcp_pcb *pcb, err_t error) {
    lwip_link *link = io;
    (void)pcb;
    link->connected = error == ERR_OK;
    return ERR_OK;
}

static err_t on_received(void *io, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
    lwip_link *link = io;
    (void)pcb, (void)error;
    if (!data) link->ended = true;
    else if (link->received) pbuf_cat(link->received, data);
    else link->received = data;
    return ERR_OK;
}

/* lwIP has freed the connection already. */
static void on_failed(void *io, err_t error) {
    (void)error;
    ((lwip_link *)io)->pcb = NULL;
}

static int link_send(void *io, const uint8_t *data, size_t length) {
    lwip_link *link = io;
    if (!link->pcb) return -1;
    if (!link->connected) return 0;
    u16_t room = tcp_sndbuf(link->pcb) < UINT16_MAX ? (u16_t)tcp_sndbuf(link->pcb) : UINT16_MAX;
    u16_t taken = length < room ? (u16_t)length : room;
    if (taken == 0) return 0;
    err_t error = tcp_write(link->pcb, data, taken, TCP_WRITE_FLAG_COPY);
    if (error == ERR_MEM) return 0; /* Until something is acknowledged. */
    if (error != ERR_OK) return -1;
    /* What it can't send now it sends later. */
    tcp_output(link->pcb);
    return taken;
}

static int link_receive(void *io, uint8_t *data, size_t length) {
    lwip_link *link = io;
    if (!link->received) return link->pcb && !link->ended ? 0 : -1;
    u16_t taken = pbuf_copy_partial(link->received, data, (u16_t)(length < UINT16_MAX ? length : UINT16_MAX), 0);
    link->received = pbuf_free_header(link->received, taken);
    if (link->pcb) tcp_recved(link->pcb, taken);
    return taken;
}

static uint32_t link_now(void *io) {
    (void)io;
    return sys_now();
}

fleet_port lwip_port(lwip_link *link) {
    fleet_port port = {link, link_send, link_receive, link_now, NULL};
    return port;
}

static bool open_link(lwip_link *link) {
    link->connected = link->ended = false;
    link->pcb = tcp_new_ip_type(IP_GET_TYPE(&link->address));
    if (!link->pcb) return false;
    tcp_arg(link->pcb, link);
    tcp_recv(link->pcb, on_received);
    tcp_err(link->pcb, on_failed);
    if (tcp_connect(link->pcb, &link->address, link->port, on_connected) == ERR_OK) return true;
    lwip_close(link);
    return false;
}

void lwip_close(lwip_link *link) {
    struct tcp_pcb *pcb = link->pcb;
    link->pcb = NULL;
    if (link->received) pbuf_free(link->received);
    link->received = NULL;
    if (!pcb) return;
    /* It may outlive the link by what it still has to send. */
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_err(pcb, NULL);
    if (tcp_close(pcb) != ERR_OK) tcp_abort(pcb);
}

void lwip_poll(fleet_sensor *sensor, lwip_link *link) {
    switch (fleet_sensor_poll(sensor)) {
    case FLEET_NOTHING: break;
    case FLEET_OPEN:
        if (open_link(link)) fleet_sensor_opened(sensor);
        else fleet_sensor_closed(sensor);
        break;
    case FLEET_CLOSE: lwip_close(link); break;
    case FLEET_SECURE: /* asked of a link that can't */
        lwip_close(link);
        fleet_sensor_closed(sensor);
        break;
    }
}
