/* A fake network for the port to lwIP: a real lwIP in this process, on a wire that turns each packet round and loses
 * some. The other end of a connection is lwIP's as well, and passes on to the real server what it is told. */
#define _POSIX_C_SOURCE 200809L
#include <lwip/prot/ip4.h>
#include <lwip/tcpip.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "lwip.h"
#include "posix.h"

const char link_options[] = " [--lose PERCENT]";

static struct netif wire;
static lwip_link sensors_end;
static posix_link server;
static unsigned lose, dice = 1;

/* The gateway's end of the connection: what came and has not gone to the server, and what comes from there. */
static struct {
    struct tcp_pcb *pcb;
    struct pbuf *received;
    bool ended;
} gateway;

/* A packet comes back from where it was to go: the addresses change places, at which no checksum changes. */
static err_t turn_round(struct netif *netif, struct pbuf *packet, const ip4_addr_t *to) {
    (void)to;
    dice ^= dice << 13, dice ^= dice >> 17, dice ^= dice << 5;
    if (dice % 100 < lose) return ERR_OK;
    struct pbuf *copy = pbuf_clone(PBUF_RAW, PBUF_RAM, packet);
    if (!copy) return ERR_MEM;
    struct ip_hdr *header = copy->payload;
    ip4_addr_p_t from = header->src;
    header->src = header->dest, header->dest = from;
    if (tcpip_inpkt(copy, netif, netif->input) != ERR_OK) pbuf_free(copy);
    return ERR_OK;
}

static err_t wire_up(struct netif *netif) {
    netif->name[0] = 'w', netif->name[1] = 'i';
    netif->output = turn_round;
    netif->mtu = 576;
    netif->flags |= NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

/* Connections end in both ways: with a FIN, and with a RST. */
static void gateway_close(void) {
    static unsigned closed;
    if (gateway.pcb) {
        tcp_arg(gateway.pcb, NULL);
        tcp_recv(gateway.pcb, NULL);
        tcp_err(gateway.pcb, NULL);
        if (closed++ % 2 || tcp_close(gateway.pcb) != ERR_OK) tcp_abort(gateway.pcb);
    }
    if (gateway.received) pbuf_free(gateway.received);
    memset(&gateway, 0, sizeof gateway);
    posix_close(&server);
}

static err_t gateway_received(void *io, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
    (void)io, (void)pcb, (void)error;
    if (!data) gateway.ended = true;
    else if (gateway.received) pbuf_cat(gateway.received, data);
    else gateway.received = data;
    return ERR_OK;
}

static void gateway_failed(void *io, err_t error) {
    (void)io, (void)error;
    gateway.pcb = NULL, gateway.ended = true;
}

static err_t gateway_accept(void *io, struct tcp_pcb *pcb, err_t error) {
    (void)io;
    if (error != ERR_OK) return error;
    gateway_close();
    gateway.pcb = pcb;
    gateway.ended = !posix_open(&server);
    tcp_recv(pcb, gateway_received);
    tcp_err(pcb, gateway_failed);
    return ERR_OK;
}

/* Passes on what there is in both directions; a side that is gone ends the other. */
static void gateway_step(void) {
    if (!gateway.pcb && !gateway.ended) return;
    fleet_port port = posix_port(&server);
    while (gateway.received && !gateway.ended) {
        int sent = port.send(port.io, gateway.received->payload, gateway.received->len);
        if (sent == 0) break;
        if (sent < 0) gateway.ended = true;
        else gateway.received = pbuf_free_header(gateway.received, (u16_t)sent), tcp_recved(gateway.pcb, (u16_t)sent);
    }
    uint8_t data[512];
    while (gateway.pcb && !gateway.ended && tcp_sndbuf(gateway.pcb) >= sizeof data) {
        int got = port.receive(port.io, data, sizeof data);
        if (got == 0) break;
        gateway.ended = got < 0 || tcp_write(gateway.pcb, data, (u16_t)got, TCP_WRITE_FLAG_COPY) != ERR_OK;
    }
    if (gateway.ended) gateway_close();
    else tcp_output(gateway.pcb);
}

static void started(void *io) { sem_post(io); }

int link_option(char **words, const char **wrong) {
    if (strcmp(words[0], "--lose") != 0 || !words[1]) return 0;
    lose = (unsigned)atoi(words[1]);
    if (lose > 90) *wrong = "it is 90 at most";
    return 2;
}

const char *link_start(size_t n, char *url, fleet_config *config, fleet_port *port) {
    if (n > 0) return "there is one link only";
    if (!posix_url(url, &server, config)) return "the URL is none";
    sem_t ready;
    sem_init(&ready, 0, 0);
    tcpip_init(started, &ready);
    while (sem_wait(&ready) != 0) {}
    ip4_addr_t own, mask, none = {0};
    IP4_ADDR(&own, 10, 0, 0, 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP_ADDR4(&sensors_end.address, 10, 0, 0, 2);
    sensors_end.port = 4222;
    LOCK_TCPIP_CORE();
    netif_add(&wire, &own, &mask, &none, NULL, wire_up, tcpip_input);
    netif_set_default(&wire);
    netif_set_up(&wire);
    struct tcp_pcb *listener = tcp_new();
    bool bound = listener && tcp_bind(listener, IP_ADDR_ANY, sensors_end.port) == ERR_OK;
    listener = bound ? tcp_listen(listener) : NULL;
    if (listener) tcp_accept(listener, gateway_accept);
    UNLOCK_TCPIP_CORE();
    *port = lwip_port(&sensors_end);
    return listener ? NULL : "lwIP has no room for a listener";
}

void link_step(size_t n, fleet_sensor *sensor, const char *program) {
    (void)n, (void)program;
    LOCK_TCPIP_CORE();
    lwip_poll(sensor, &sensors_end);
    gateway_step();
    UNLOCK_TCPIP_CORE();
}

void link_end(void) {
    LOCK_TCPIP_CORE();
    lwip_close(&sensors_end);
    gateway_close();
    UNLOCK_TCPIP_CORE();
}
