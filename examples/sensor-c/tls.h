/* A POSIX link that speaks TLS and signs with an nkey, by OpenSSL (1.1.1 or later). */
#ifndef FLEET_TLS_H
#define FLEET_TLS_H

#include "nkey.h"
#include "posix.h"

typedef struct {
    posix_link socket;
    nkey_login login;
    bool first;              /* TLS from the first byte: the server's `handshake_first` */
    bool opening;            /* such a handshake is under way, */
    uint32_t opening_at;     /* since then */
    struct ssl_ctx_st *context;
    struct ssl_st *ssl;      /* NULL while the link is plain */
    char error[160];         /* why the last handshake failed, for the caller to print and empty */
} tls_link;

/* As posix_url, but tls:// asks for TLS too. */
bool tls_url(char *url, tls_link *link, fleet_config *config);

/* Whose servers are trusted: those with a certificate of `ca`, a PEM file, or, with NULL, of the system's CAs.
 * False if it can't be read. */
bool tls_trust(tls_link *link, const char *ca);

/* The link's callbacks; `link` must live as long as the sensor. */
fleet_port tls_port(tls_link *link);

/* Polls a sensor, and opens, secures and closes its link as it asks. */
void tls_poll(fleet_sensor *sensor, tls_link *link);

void tls_free(tls_link *link);

#endif
