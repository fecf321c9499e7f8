/* The link of a sensor over lwIP's raw API (2.1 or later), for a firmware with or without an operating system.
 *
 * All of it, fleet_sensor_poll() included, is called where lwIP may be: from the main loop with NO_SYS=1, else from
 * the tcpip thread or with the core locked; never from a callback of lwIP. */
#ifndef FLEET_LWIP_H
#define FLEET_LWIP_H

#include <lwip/ip_addr.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>

#include "fleet_sensor.h"

typedef struct {
    ip_addr_t address; /* yours, by dns_gethostbyname() or by configuration */
    u16_t port;
    /* Private. */
    struct tcp_pcb *pcb;   /* NULL while there is no connection, also one that failed */
    struct pbuf *received; /* what came and was not taken; the window grows as it is taken */
    bool connected, ended; /* ended: the other side said that there is no more */
} lwip_link;

/* The link's callbacks; `link` must live as long as the sensor. Set port.sign yourself where the login needs it. */
fleet_port lwip_port(lwip_link *link);

/* Polls a sensor, and opens and closes its link as it asks. */
void lwip_poll(fleet_sensor *sensor, lwip_link *link);

void lwip_close(lwip_link *link);

#endif
