/* How `sensor` and `vehicle` reach the server, by the file that they are linked with: link_plain.c, link_tls.c or
 * link_lwip.c. Links have numbers, for a vehicle has one for each signal. */
#ifndef FLEET_LINK_H
#define FLEET_LINK_H

#include "signals.h"

/* Its options, as a usage line has them. */
extern const char link_options[];

/* An option with what follows it; how many words it took, 0 if it is none, and what is wrong with it. */
int link_option(char **words, const char **wrong);

/* Makes the n-th link and puts into configuration and port what it gives; the URL is cut into pieces and must live on.
 * NULL, or what is wrong. */
const char *link_start(size_t n, char *url, fleet_config *config, fleet_port *port);

/* Polls a sensor, and opens, secures and closes its link as it asks. */
void link_step(size_t n, fleet_sensor *sensor, const char *program);

void link_end(void);

#endif
