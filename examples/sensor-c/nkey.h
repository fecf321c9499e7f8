/* A login by nkey or JWT on POSIX, by OpenSSL (1.1.1 or later). */
#ifndef FLEET_NKEY_H
#define FLEET_NKEY_H

#include "fleet_sensor.h"

typedef struct {
    struct evp_pkey_st *key;
    char public_key[57]; /* U… */
    char jwt[4096];      /* empty without one */
} nkey_login;

/* Reads a file with a user's seed (SU…), or a .creds file with a JWT and a seed. Gives NULL, or what is wrong:
 * never a piece of the file. */
const char *nkey_read(nkey_login *login, const char *path);

/* Puts the JWT or the public key into the configuration; `login` must live as long as the sensor. */
void nkey_configure(const nkey_login *login, fleet_config *config);

/* As fleet_port's `sign`. */
int nkey_sign(const nkey_login *login, const char *nonce, char *out);

void nkey_free(nkey_login *login);

#endif
