#include "link.h"
#include "posix.h"

const char link_options[] = "";

static posix_link links[SIGNALS_MAX];
static size_t count;

int link_option(char **words, const char **wrong) {
    (void)words, (void)wrong;
    return 0;
}

const char *link_start(size_t n, char *url, fleet_config *config, fleet_port *port) {
    if (!posix_url(url, &links[n], config)) return "the URL is none; tls:// needs sensor-tls or vehicle-tls (make TLS=1)";
    *port = posix_port(&links[n]);
    count = n + 1;
    return NULL;
}

void link_step(size_t n, fleet_sensor *sensor, const char *program) {
    (void)program;
    posix_poll(sensor, &links[n]);
}

void link_end(void) {
    while (count) posix_close(&links[--count]);
}
