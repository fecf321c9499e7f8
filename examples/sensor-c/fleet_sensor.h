/* A NATS publisher for one sensor of a vehicle: no heap, no threads, no floating point, no dependency.
 *
 * The caller owns all memory and the link. It calls fleet_sensor_poll() often; what that gives says when
 * to open and close the link. Samples wait in a ring until JetStream has acknowledged them; when it is
 * full the oldest go, and are counted. Payloads are frame v1 (docs/wire-format.md). */
#ifndef FLEET_SENSOR_H
#define FLEET_SENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Leave out what a device doesn't need, for its size. */
#ifndef FLEET_AUTH_NKEY
#define FLEET_AUTH_NKEY 1 /* nkey and JWT */
#endif
#ifndef FLEET_MSG_ID
#define FLEET_MSG_ID 1 /* HPUB with Nats-Msg-Id: the stream drops what is sent twice */
#endif
#ifndef FLEET_WINDOW
#define FLEET_WINDOW 4 /* frames that wait for their acknowledgement at most */
#endif
#ifndef FLEET_BUFFER
#define FLEET_BUFFER 288 /* bytes of one command; long names leave less room for samples */
#endif
#ifndef FLEET_ERROR
#define FLEET_ERROR 44 /* bytes for the server's last -ERR; of a longer one its end, with the subject, is kept */
#endif
#ifndef FLEET_TRIES
#define FLEET_TRIES 12 /* sends in a row without an answer until the caller is told: 15 s to a minute */
#endif
#if FLEET_WINDOW < 1 || FLEET_WINDOW > 255 || FLEET_BUFFER < 64 || FLEET_BUFFER > 65535
#error "FLEET_WINDOW must be 1 to 255 and FLEET_BUFFER 64 to 65535"
#endif
#if FLEET_ERROR < 2 || FLEET_ERROR > 254 || FLEET_TRIES < 1 || FLEET_TRIES > 255
#error "FLEET_ERROR must be 2 to 254 and FLEET_TRIES 1 to 255"
#endif

#define FLEET_ID_MAX 64       /* characters of a cell, vehicle or signal */
#define FLEET_ON_EVERY 60000  /* ms between two `on` of a trip */
#define FLEET_HOLD 2000       /* ms that samples wait after `on`, so that a binding needs no catch-up */
#define FLEET_ACK_TIMEOUT 5000
#define FLEET_PING_EVERY 30000
#define FLEET_HANDSHAKE 10000 /* ms until a silent server is given up */
#define FLEET_BACKOFF_MAX 60000

/* All functions are given `io`. Neither waits: they take or give what is possible now. */
typedef struct {
    void *io;
    int (*send)(void *io, const uint8_t *data, size_t length);    /* bytes taken, 0: none now, < 0: link gone */
    int (*receive)(void *io, uint8_t *data, size_t length);       /* bytes given, 0: none now, < 0: link gone */
    uint32_t (*now)(void *io);                                    /* ms of a clock that only goes on; may wrap */
    /* Signs the server's nonce with the nkey: base64url of the signature without padding, ended by 0, into
     * `out` of 88 bytes; < 0 if it can't. NULL where neither `nkey` nor `jwt` is set. */
    int (*sign)(void *io, const char *nonce, char *out);
} fleet_port;

/* The strings stay the caller's and must live as long as the sensor. */
typedef struct {
    const char *cell, *vehicle, *signal; /* [A-Za-z0-9_-]{1,64} each; a signal is neither "on" nor "off" */
    uint8_t columns, bytes;              /* values of a sample, and bytes of each on the wire: 1, 2 or 4 */
    uint8_t batch;                       /* samples of a frame at most, 1 to 64 */
    uint16_t batch_ms;                   /* how long a sample waits for others at most */
    const char *user, *password;         /* one way to log in, or none: these, without control characters; or */
    const char *token;                   /* or */
    const char *jwt, *nkey;              /* a JWT, or a public nkey; both sign the nonce */
    bool tls;                            /* after INFO the caller is asked for TLS, and nothing goes without */
    uint32_t seed;                       /* differs from device to device and from start to start: a random number,
                                          * or the chip's number and a counter of starts. Spreads reconnects and
                                          * is in message ids and inboxes: with the same one, an acknowledgement
                                          * of before a reset that is still under way could be taken for one of
                                          * after it */
    uint8_t *ring;                       /* FLEET_RING(samples, columns, bytes) bytes */
    size_t ring_bytes;
} fleet_config;

/* Bytes of a ring: FLEET_RING(32, FLEET_SPEED), or with columns and bytes. */
#define FLEET_RING(samples, ...) FLEET_RING_OF(samples, __VA_ARGS__)
#define FLEET_RING_OF(samples, columns, bytes) ((samples) * (6u + (columns) * (bytes)))

/* The scenario's signals as columns and bytes, also behind `.signal` in a fleet_config. Counts are 1e-7 degree, 0.01 km/h, 0.01 %, 0.1 degC. */
#define FLEET_POSITION 2, 4
#define FLEET_SPEED 1, 2
#define FLEET_FUEL 1, 2
#define FLEET_BRAKE 1, 2

/* What the caller is to do. */
typedef enum {
    FLEET_NOTHING, /* poll again, within 100 ms or when bytes come */
    FLEET_OPEN,    /* open the link, then call fleet_sensor_opened(); if that fails, fleet_sensor_closed() */
    FLEET_SECURE,  /* go on with the TLS handshake; once it is done and the server's certificate is good,
                    * call fleet_sensor_secured(); if it failed, close the link and call fleet_sensor_closed() */
    FLEET_CLOSE    /* close the link; FLEET_OPEN comes after a pause */
} fleet_want;

typedef struct {
    uint32_t sent;
    uint16_t sequence;
    uint8_t count;
    bool acknowledged;
} fleet_flight;

/* Small fields come first: a Cortex-M0+ reaches them in one instruction. */
typedef struct {
    /* For whoever looks: how often in a row frames, and `on` or `off`, were sent again because nothing
     * acknowledged them. At FLEET_TRIES no stream takes them: they wait in the ring and go once a minute only,
     * until one is acknowledged or the link is opened anew. */
    uint8_t unanswered, life_unanswered;
    /* Private. */
    uint8_t state, connect_step, life, flights, pings, failures;
    bool holding, leaving, life_acknowledged, life_waiting, headers, pong_due;
    /* The line under way: its operation, its field, the last token of its subject, its last number. */
    uint8_t op_length, field, tail_length, matched;
    bool in_body, body_bad;
    uint8_t body_length;
    char op[2]; /* enough to tell the operations apart */
    uint16_t sequence, salt, room, connect_at, out_length, out_sent; /* room: bytes for a frame */
    uint16_t capacity, tail, count, stride; /* of the ring: samples; stride: bytes of one */
    uint32_t number, skip;
    uint32_t opened_at, closed_at, pause, pinged_at, life_at, held_at, waits_at, random;
    fleet_port port;
    uint64_t since;
    fleet_flight flight[FLEET_WINDOW];
    char tail_of[12];
    uint8_t body[8];
    fleet_config config;

    /* For whoever looks too: samples, and connections and errors of the server. */
    uint32_t pushed, acknowledged, dropped, resent, connects, errors;
    char error[FLEET_ERROR]; /* the last -ERR, of a longer one its end */

#if FLEET_AUTH_NKEY
    char nonce[48], signature[88];
    uint8_t nonce_length, nonce_matched;
#endif
    uint8_t out[FLEET_BUFFER];
} fleet_sensor;

/* 0, or the negative number of the argument that is wrong: -1 an id, -2 the shape, -3 the ring (less than a
 * sample, or more than 65,535), -4 the login (more than one, a control character, or no `sign`), -5 a callback,
 * -6 names too long for FLEET_BUFFER. */
int fleet_sensor_init(fleet_sensor *sensor, const fleet_config *config, const fleet_port *port);

/* Stores a sample: UTC milliseconds since 1970 and one count per column. False if a count doesn't fit its
 * bytes or the time its 48 bits; a full ring drops its oldest sample instead. */
bool fleet_sensor_push(fleet_sensor *sensor, uint64_t utc_ms, const int32_t *counts);

/* The vehicle is on since then (UTC milliseconds since 1970, 48 bits); said until acknowledged, and every
 * minute. Samples wait for FLEET_HOLD after it was first said, so that the worker is there when they come. One
 * sensor of a vehicle does this. */
void fleet_sensor_on(fleet_sensor *sensor, uint64_t since_utc_ms);

/* The other sensors of the vehicle, when it is switched on: their samples wait for FLEET_HOLD from now. */
void fleet_sensor_hold(fleet_sensor *sensor);

/* The vehicle is off; said when `on` and all samples are acknowledged, or no stream takes these, until it is too. */
void fleet_sensor_off(fleet_sensor *sensor);

/* The link is open, or could not be opened, or is gone. */
void fleet_sensor_opened(fleet_sensor *sensor);
void fleet_sensor_closed(fleet_sensor *sensor);

/* From here on the callbacks speak TLS. */
void fleet_sensor_secured(fleet_sensor *sensor);

/* Does what can be done now. */
fleet_want fleet_sensor_poll(fleet_sensor *sensor);

/* Whether everything is acknowledged: no sample waits, and no `on` or `off`. */
bool fleet_sensor_idle(const fleet_sensor *sensor);

/* Writes the frame of the `count` oldest samples after the first `from`, which must go on in time, with
 * this counter; gives its length. For tests and for other transports. */
size_t fleet_sensor_frame(const fleet_sensor *sensor, uint32_t from, uint32_t count, uint16_t sequence,
                          uint8_t *out);

#endif
