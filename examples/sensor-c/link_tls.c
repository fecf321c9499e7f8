#include <stdio.h>
#include <string.h>

#include "link.h"
#include "tls.h"

const char link_options[] = " [--ca FILE] [--tls-first] [--creds FILE]";

static tls_link links[SIGNALS_MAX];
static size_t count;
static const char *ca, *creds;
static bool first;

int link_option(char **words, const char **wrong) {
    bool more = words[1] != NULL;
    if (strcmp(words[0], "--tls-first") == 0) return first = true, 1;
    if (strcmp(words[0], "--ca") == 0 && more) return ca = words[1], 2;
    if (strcmp(words[0], "--creds") == 0 && more) return *wrong = nkey_read(&links[0].login, creds = words[1]), 2;
    return 0;
}

const char *link_start(size_t n, char *url, fleet_config *config, fleet_port *port) {
    tls_link *link = &links[n];
    if (!tls_url(url, link, config)) return "the URL is none";
    if (first && !config->tls) return "--tls-first is for tls://";
    if (ca && !config->tls) return "--ca is for tls://";
    if (config->tls && !tls_trust(link, ca)) return "the CAs can't be read";
    const char *wrong = creds && !link->login.key ? nkey_read(&link->login, creds) : NULL;
    if (wrong) return wrong;
    if (link->login.key) nkey_configure(&link->login, config);
    /* The core asks for TLS after INFO; here it is there before. */
    link->first = first;
    if (first) config->tls = false;
    *port = tls_port(link);
    count = n + 1;
    return NULL;
}

void link_step(size_t n, fleet_sensor *sensor, const char *program) {
    tls_poll(sensor, &links[n]);
    if (*links[n].error) fprintf(stderr, "%s: %s\n", program, links[n].error);
    *links[n].error = 0;
}

void link_end(void) {
    while (count) tls_free(&links[--count]);
}
