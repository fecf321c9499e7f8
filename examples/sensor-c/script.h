/* A server that plays a script, for cases_trip.c and cases_link.c. */
#ifndef FLEET_SCRIPT_H
#define FLEET_SCRIPT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleet_sensor.h"

#define REQUIRE(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)
#define NOON UINT64_C(1735689600000)

#define PUBLISHED (FLEET_MSG_ID ? "HPUB fleet.0.V.speed " : "PUB fleet.0.V.speed ")
#define ON "PUB fleet.0.V.on _INBOX.V.speed.on 23\r\n{\"since\":1735689600000}\r\n"
#define OFF "PUB fleet.0.V.off _INBOX.V.speed.off 0\r\n\r\n"

/* A server that says what it is told to, in pieces, and keeps what it hears. */
typedef struct {
    const uint8_t *data;
    size_t length, at, piece, sent;
    uint32_t now;
    bool blocked, gone;
    char heard[65536];
    size_t hearing;
} script;

/* The sensor's callbacks; signing fails. */
int script_send(void *io, const uint8_t *data, size_t length);
int script_receive(void *io, uint8_t *data, size_t length);
int script_sign(void *io, const char *nonce, char *out);
uint32_t script_now(void *io);

/* A sensor of speeds, four in a frame. */
fleet_config speed_config(uint8_t *ring, size_t ring_bytes);
fleet_sensor sensor_of(script *server, uint8_t *ring, size_t ring_bytes);
void push(fleet_sensor *sensor, uint64_t ms, int32_t count);

/* What the server says next. */
void say(script *server, const char *text);

/* Polls for that long, opening links as asked. */
void run(fleet_sensor *sensor, script *server, uint32_t ms);

/* Behind the n-th of these texts that was heard, or NULL; how many there are. */
const char *nth(const script *server, int n, const char *text);
int times(const script *server, const char *text);
bool heard(const script *server, const char *text);

/* A stream's answer to what had this inbox, and the one that says it is stored. */
void answer(fleet_sensor *sensor, script *server, const char *token, const char *body);
void store(fleet_sensor *sensor, script *server, const char *token);
void store_frame(fleet_sensor *sensor, script *server, unsigned sequence);

/* What a server says to a link that opened; the same from the opening on. */
void greet(fleet_sensor *sensor, script *server);
void welcome(fleet_sensor *sensor, script *server);

#endif
