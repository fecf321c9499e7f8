/* Servers that say much, little and nothing, for `check cases`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleet_sensor.h"

#define REQUIRE(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)
#define NOON UINT64_C(1735689600000)

void cases(void);

/* A server that says what it is told to, in pieces, and keeps what it hears. */
typedef struct {
    const uint8_t *data;
    size_t length, at, piece, sent;
    uint32_t now;
    bool blocked, gone;
    char heard[65536];
    size_t hearing;
} script;

static int script_send(void *io, const uint8_t *data, size_t length) {
    script *s = io;
    if (s->blocked || s->gone) return s->gone ? -1 : 0;
    /* Now and then only a part. */
    size_t taken = ++s->sent % 3 == 0 ? (length + 1) / 2 : length;
    REQUIRE(s->hearing + taken <= sizeof s->heard);
    memcpy(s->heard + s->hearing, data, taken);
    s->hearing += taken;
    return (int)taken;
}

static int script_receive(void *io, uint8_t *data, size_t length) {
    script *s = io;
    size_t left = s->length - s->at, piece = s->piece < length ? s->piece : length;
    if (left == 0) return 0;
    if (piece > left) piece = left;
    memcpy(data, s->data + s->at, piece);
    s->at += piece;
    return (int)piece;
}

static int script_sign(void *io, const char *nonce, char *out) {
    (void)io, (void)nonce, (void)out;
    return -1;
}

static uint32_t script_now(void *io) { return ((script *)io)->now; }

static fleet_config speed_config(uint8_t *ring, size_t ring_bytes) {
    fleet_config config;
    memset(&config, 0, sizeof config);
    config.cell = "0", config.vehicle = "V", config.signal = "speed", config.columns = 1, config.bytes = 2;
    config.batch = 4, config.seed = 7, config.ring = ring, config.ring_bytes = ring_bytes;
    return config;
}

static fleet_sensor sensor_of(script *server, uint8_t *ring, size_t ring_bytes) {
    fleet_port port = {server, script_send, script_receive, script_now, NULL};
    fleet_config config = speed_config(ring, ring_bytes);
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    return sensor;
}

static void say(script *server, const char *text) {
    server->data = (const uint8_t *)text, server->length = strlen(text), server->at = 0;
}

/* Polls for that long, opening links as asked. */
static void run(fleet_sensor *sensor, script *server, uint32_t ms) {
    for (uint32_t end = server->now + ms; server->now != end; server->now += 10)
        if (fleet_sensor_poll(sensor) == FLEET_OPEN) fleet_sensor_opened(sensor);
}

/* Behind the n-th of these texts, or NULL. Frames have zeros in them. */
static const char *nth(const script *server, int n, const char *text) {
    size_t length = strlen(text);
    for (size_t at = 0; at + length <= server->hearing; at++)
        if (memcmp(server->heard + at, text, length) == 0 && --n == 0) return server->heard + at + length;
    return NULL;
}

static int times(const script *server, const char *text) {
    int found = 0;
    while (nth(server, found + 1, text)) found++;
    return found;
}

static bool heard(const script *server, const char *text) { return nth(server, 1, text) != NULL; }

#define PUBLISHED (FLEET_MSG_ID ? "HPUB fleet.0.V.speed " : "PUB fleet.0.V.speed ")
#define ON "PUB fleet.0.V.on _INBOX.V.speed.on 23\r\n{\"since\":1735689600000}\r\n"
#define OFF "PUB fleet.0.V.off _INBOX.V.speed.off 0\r\n\r\n"

static void push(fleet_sensor *sensor, uint64_t ms, int32_t count) { REQUIRE(fleet_sensor_push(sensor, ms, &count)); }

/* A stream's answer to what had this inbox. */
static void answer(fleet_sensor *sensor, script *server, const char *token, const char *body) {
    char text[128];
    int length = snprintf(text, sizeof text, "MSG _INBOX.V.speed.%s 1 %zu\r\n%s\r\n", token, strlen(body), body);
    REQUIRE(length > 0 && length < (int)sizeof text);
    say(server, text);
    run(sensor, server, 100);
    REQUIRE(server->at == server->length);
}

static void store(fleet_sensor *sensor, script *server, const char *token) {
    answer(sensor, server, token, "{\"stream\":\"T\",\"seq\":1}");
}

static void store_frame(fleet_sensor *sensor, script *server, unsigned sequence) {
    char token[16];
    snprintf(token, sizeof token, "%04x%04x", sensor->salt, sequence);
    store(sensor, server, token);
}

/* What a server says to a link that opened. */
static void greet(fleet_sensor *sensor, script *server) {
    say(server, "INFO {\"headers\":true}\r\n");
    run(sensor, server, 100);
    say(server, "PONG\r\n");
    run(sensor, server, 100);
    REQUIRE(server->at == server->length && sensor->failures == 0);
}

static void welcome(fleet_sensor *sensor, script *server) {
    while (fleet_sensor_poll(sensor) != FLEET_OPEN) server->now += 10;
    fleet_sensor_opened(sensor);
    greet(sensor, server);
}

/* INFO of 4 KiB, a byte at a time, and what follows from it. */
static void long_info(void) {
    static script server;
    static char info[4200] = "INFO {\"server_id\":\"";
    uint8_t ring[FLEET_RING(8, 1, 2)];
    memset(info + strlen(info), 'x', 4000);
    strcat(info, "\",\"headers\":true,\"max_payload\":1048576}\r\n");
    server.piece = 1;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    say(&server, info);
    for (int i = 0; i < 4; i++) push(&sensor, NOON + (uint64_t)i, i);
    run(&sensor, &server, 1500);
    REQUIRE(heard(&server, "CONNECT {") && heard(&server, "SUB _INBOX.V.speed.* 1\r\nPING\r\n"));
    REQUIRE(!heard(&server, "PUB "));
    say(&server, "PO");
    run(&sensor, &server, 100);
    say(&server, "NG\r\n");
    run(&sensor, &server, 100);
    /* Samples wait for 2 s after `on`, and then go with an id, because the server takes headers. */
    REQUIRE(heard(&server, ON) && !heard(&server, PUBLISHED));
    run(&sensor, &server, 2000);
    REQUIRE(heard(&server, PUBLISHED) && heard(&server, "Nats-Msg-Id: ") == FLEET_MSG_ID);
    REQUIRE(sensor.count == 4 && !fleet_sensor_idle(&sensor));
    /* Neither an error nor anything else that has an answer is a stream's word. */
    char token[16];
    snprintf(token, sizeof token, "%04x%04x", sensor.salt, 0);
    answer(&sensor, &server, token, "{\"error\":{\"code\":503}}");
    answer(&sensor, &server, token, "+OK, thank you");
    run(&sensor, &server, 6000);
    REQUIRE(sensor.acknowledged == 0 && sensor.resent > 0);
    store(&sensor, &server, token);
    REQUIRE(sensor.acknowledged == 4 && sensor.count == 0 && !fleet_sensor_idle(&sensor));
    store(&sensor, &server, "on");
    REQUIRE(fleet_sensor_idle(&sensor));
}

/* Many seconds of a link whose server answers. */
static void last(fleet_sensor *sensor, script *server, uint32_t seconds) {
    for (uint32_t second = 0; second < seconds; second++) {
        say(server, "PONG\r\n");
        run(sensor, server, 1000);
    }
}

/* `on` is said until acknowledged and every minute with the same `since`, and samples wait for 2 s after the first
 * one; all of it across a wrap of the clock. */
static void trip(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64, server.now = UINT32_MAX - 13000u;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    push(&sensor, NOON, 1);
    run(&sensor, &server, 5000); /* the server isn't there yet */
    greet(&sensor, &server);
    run(&sensor, &server, 1800);
    REQUIRE(times(&server, ON) == 1 && !heard(&server, PUBLISHED));
    run(&sensor, &server, 200);
    REQUIRE(times(&server, PUBLISHED) == 1);
    store_frame(&sensor, &server, 0);
    last(&sensor, &server, 13);
    REQUIRE(times(&server, ON) == 4);
    store(&sensor, &server, "on");
    last(&sensor, &server, 59);
    REQUIRE(times(&server, ON) == 4 && fleet_sensor_idle(&sensor));
    run(&sensor, &server, 2000);
    REQUIRE(times(&server, ON) == 5);
    /* No second pause for samples. */
    push(&sensor, NOON + 60000, 2);
    run(&sensor, &server, 100);
    REQUIRE(times(&server, PUBLISHED) == 2);
    /* `off` waits for the samples, and for the `on` that is under way. */
    fleet_sensor_off(&sensor);
    store(&sensor, &server, "on");
    REQUIRE(!heard(&server, OFF));
    store_frame(&sensor, &server, 1);
    REQUIRE(times(&server, OFF) == 1 && !fleet_sensor_idle(&sensor));
    run(&sensor, &server, 5000);
    REQUIRE(times(&server, OFF) == 2);
    store(&sensor, &server, "on"); /* a late one, which is no longer waited for */
    REQUIRE(!fleet_sensor_idle(&sensor));
    store(&sensor, &server, "off");
    REQUIRE(fleet_sensor_idle(&sensor));
    last(&sensor, &server, 70);
    REQUIRE(times(&server, OFF) == 2 && times(&server, ON) == 5);
    /* What acknowledges one trip's `on` says nothing of the next one's, which wasn't said yet. */
    fleet_sensor_on(&sensor, NOON);
    run(&sensor, &server, 100);
    fleet_sensor_on(&sensor, NOON);
    store(&sensor, &server, "on");
    REQUIRE(times(&server, ON) == 7 && !fleet_sensor_idle(&sensor));
    store(&sensor, &server, "on");
    REQUIRE(fleet_sensor_idle(&sensor) && sensor.connects == 1);
    fleet_sensor_off(&sensor);
    REQUIRE(!fleet_sensor_idle(&sensor));
}

/* A trip that is over before there is a link: announced, then its samples, then its end. */
static void trip_without_a_link(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    for (int i = 0; i < 4; i++) push(&sensor, NOON + (uint64_t)i, i);
    fleet_sensor_off(&sensor);
    server.now += UINT32_C(3000000000); /* 34 days */
    welcome(&sensor, &server);
    REQUIRE(heard(&server, ON));
    store(&sensor, &server, "on");
    REQUIRE(!heard(&server, PUBLISHED) && !fleet_sensor_idle(&sensor));
    run(&sensor, &server, 2000);
    REQUIRE(heard(&server, PUBLISHED) && !heard(&server, OFF));
    store_frame(&sensor, &server, 0);
    REQUIRE(heard(&server, OFF));
    store(&sensor, &server, "off");
    REQUIRE(fleet_sensor_idle(&sensor) && sensor.acknowledged == 4);
}

/* Another sensor of the vehicle, which says neither `on` nor `off`. */
static void beside_it(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_hold(&sensor);
    push(&sensor, NOON, 1);
    welcome(&sensor, &server);
    run(&sensor, &server, 1700);
    REQUIRE(!heard(&server, PUBLISHED));
    run(&sensor, &server, 200);
    REQUIRE(heard(&server, PUBLISHED) && !heard(&server, ON));
}

/* The samples of a frame that was heard. */
static int frame_of(const script *server, int n) {
    const char *body = nth(server, n, PUBLISHED);
    REQUIRE(body);
    body = strchr(body, '\xF1');
    REQUIRE(body);
    return body[1];
}

/* A frame goes when it can't grow any more, or when its first sample has waited for long enough. */
static void several_in_a_frame(void) {
    static script server;
    uint8_t ring[FLEET_RING(64, 1, 2)];
    server.piece = 64;
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_config config = speed_config(ring, sizeof ring);
    config.batch_ms = 500;
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    welcome(&sensor, &server);
    for (int i = 0; i < 4; i++) {
        push(&sensor, NOON + 240u * (uint64_t)i, i);
        run(&sensor, &server, 240);
    }
    REQUIRE(times(&server, PUBLISHED) == 1 && frame_of(&server, 1) == 3);
    run(&sensor, &server, 500);
    REQUIRE(times(&server, PUBLISHED) == 2 && frame_of(&server, 2) == 1);
    /* Many at once; then a clock that is put back, and one that is put on. */
    static const uint64_t at[] = {2000, 2001, 2002, 2003, 2004, 1000, 1001, 66537, 66537};
    for (int i = 0; i < 9; i++) push(&sensor, NOON + at[i], i);
    run(&sensor, &server, 100);
    REQUIRE(times(&server, PUBLISHED) == 4 && frame_of(&server, 3) == 4 && frame_of(&server, 4) == 1);
    for (unsigned i = 0; i < 4; i++) store_frame(&sensor, &server, i);
    run(&sensor, &server, 600);
    REQUIRE(times(&server, PUBLISHED) == 6 && frame_of(&server, 5) == 2 && frame_of(&server, 6) == 2);
    store_frame(&sensor, &server, 5); /* in any order */
    REQUIRE(sensor.acknowledged == 9);
    store_frame(&sensor, &server, 4);
    REQUIRE(sensor.acknowledged == 13 && fleet_sensor_idle(&sensor));
}

/* A full ring drops what is needed and no more, and only what no stream has acknowledged counts as dropped. */
static void full_ring(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    welcome(&sensor, &server);
    for (int i = 0; i < 8; i++) push(&sensor, NOON + (uint64_t)i, i);
    run(&sensor, &server, 100);
    REQUIRE(times(&server, PUBLISHED) == 2 && sensor.flights == 2);
    store_frame(&sensor, &server, 1);
    REQUIRE(sensor.acknowledged == 0);
    for (int i = 8; i < 11; i++) push(&sensor, NOON + (uint64_t)i, i);
    REQUIRE(sensor.dropped == 3 && sensor.count == 8);
    /* What is left of the first frame goes again. */
    run(&sensor, &server, 6000);
    REQUIRE(frame_of(&server, 3) == 3 && frame_of(&server, 4) == 1);
    push(&sensor, NOON + 11, 11);
    REQUIRE(sensor.dropped == 4 && sensor.acknowledged == 4 && sensor.count == 4);
    store_frame(&sensor, &server, 0); /* nobody's any more */
    store_frame(&sensor, &server, 2);
    run(&sensor, &server, 100);
    store_frame(&sensor, &server, 3);
    REQUIRE(sensor.acknowledged == 8 && fleet_sensor_idle(&sensor));
}

#if FLEET_MSG_ID
static void id_of(const script *server, int n, char id[25]) {
    const char *text = nth(server, n, "Nats-Msg-Id: ");
    REQUIRE(text && text[24] == '\r');
    memcpy(id, text, 24);
    id[24] = 0;
}

/* A frame that goes again has its id again, and no other frame has it: of this sensor, of the same one started
 * anew, at a time that comes again or with a seed that does, and of another. */
static void ids(void) {
    static const struct {
        const char *vehicle;
        uint64_t time;
        uint32_t seed;
    } starts[] = {{"V", NOON, 7}, {"V", NOON + 1, 7}, {"V", NOON, 8}, {"W", NOON, 7}};
    enum { STARTS = sizeof starts / sizeof *starts };
    static char found[2 * STARTS][25];
    for (int i = 0; i < STARTS; i++) {
        static script server;
        uint8_t ring[FLEET_RING(8, 1, 2)];
        memset(&server, 0, sizeof server);
        server.piece = 64;
        fleet_config config = speed_config(ring, sizeof ring);
        config.vehicle = starts[i].vehicle, config.seed = starts[i].seed;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_sensor sensor;
        REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
        for (int n = 0; n < 8; n++) push(&sensor, starts[i].time, n);
        welcome(&sensor, &server);
        fleet_sensor_closed(&sensor);
        run(&sensor, &server, 2000);
        greet(&sensor, &server);
        char again[25];
        for (int n = 0; n < 2; n++) {
            id_of(&server, 1 + n, found[2 * i + n]);
            id_of(&server, 3 + n, again);
            REQUIRE(strcmp(found[2 * i + n], again) == 0);
        }
        REQUIRE(sensor.resent == 2 && times(&server, "Nats-Msg-Id: ") == 4);
    }
    for (int i = 0; i < 2 * STARTS; i++)
        for (int j = 0; j < i; j++) REQUIRE(strcmp(found[i], found[j]) != 0);
}
#endif

/* PING is answered; a server that no longer answers ours is left, and a link that breaks too. */
static void dead_links(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    welcome(&sensor, &server);
    say(&server, "PING\r\n");
    run(&sensor, &server, 100);
    REQUIRE(times(&server, "PONG\r\n") == 1);
    server.hearing = 0;
    run(&sensor, &server, 29000);
    REQUIRE(!heard(&server, "PING\r\n"));
    run(&sensor, &server, 2000);
    REQUIRE(times(&server, "PING\r\n") == 1);
    say(&server, "PONG\r\n");
    run(&sensor, &server, 60000);
    REQUIRE(times(&server, "PING\r\n") == 3 && sensor.connects == 1);
    run(&sensor, &server, 40000);
    REQUIRE(sensor.connects > 1);
    /* Too full for now, then gone. */
    welcome(&sensor, &server);
    uint32_t connects = sensor.connects;
    server.hearing = 0, server.blocked = true;
    push(&sensor, NOON, 1);
    run(&sensor, &server, 1000);
    REQUIRE(server.hearing == 0 && sensor.connects == connects);
    server.gone = true;
    while (fleet_sensor_poll(&sensor) != FLEET_CLOSE) {}
    server.blocked = server.gone = false;
    welcome(&sensor, &server);
    REQUIRE(times(&server, PUBLISHED) == 1 && sensor.count == 1);
}

/* The pauses between links that can't be opened double up to a minute, and are each sensor's own. */
static void back_off(void) {
    static script server;
    uint32_t pauses[2][9];
    for (uint32_t seed = 1; seed <= 2; seed++) {
        uint8_t ring[FLEET_RING(8, 1, 2)];
        fleet_config config = speed_config(ring, sizeof ring);
        config.seed = seed;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_sensor sensor;
        REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
        REQUIRE(fleet_sensor_poll(&sensor) == FLEET_OPEN);
        for (uint32_t n = 0, most = 1000; n < 9; n++, most = n < 6 ? 1000u << n : FLEET_BACKOFF_MAX) {
            uint32_t begun = server.now;
            fleet_sensor_closed(&sensor);
            while (fleet_sensor_poll(&sensor) != FLEET_OPEN) server.now++;
            pauses[seed - 1][n] = server.now - begun;
            REQUIRE(pauses[seed - 1][n] >= most / 2 && pauses[seed - 1][n] <= most);
        }
    }
    for (int n = 0; n < 9; n++) REQUIRE(pauses[0][n] != pauses[1][n]);
}

/* What logs in is JSON whatever is in it and however long it is, and what the server refuses is kept. */
static void logins(void) {
    static script server;
    static char token[1500];
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_config config = speed_config(ring, sizeof ring);
    config.user = "a\"b", config.password = "c\\";
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    welcome(&sensor, &server);
    REQUIRE(heard(&server, "\"headers\":true,\"user\":\"a\\\"b\",\"pass\":\"c\\\\\"}\r\nSUB _INBOX.V.speed.* 1\r\nPING\r\n"));
    for (size_t i = 0; i < 700; i++) token[i] = i % 3 ? '"' : 'x';
    config.user = config.password = NULL, config.token = token;
    server.hearing = 0;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    welcome(&sensor, &server);
    static char expected[2000] = ",\"auth_token\":\"";
    for (size_t i = 0; i < 700; i++) strcat(expected, token[i] == 'x' ? "x" : "\\\"");
    strcat(expected, "\"}\r\nSUB ");
    REQUIRE(heard(&server, expected));
    say(&server, "-ERR 'Authorization Violation'\r\n");
    run(&sensor, &server, 100);
    REQUIRE(sensor.errors == 1 && strcmp(sensor.error, "'Authorization Violation'") == 0);
    say(&server, "-ERR 'Permissions Violation for Publish to \"fleet.0.V.speed\"'\r\n");
    run(&sensor, &server, 100);
    REQUIRE(sensor.errors == 2 && strcmp(sensor.error, "'Permissions Violation for ") == 0);
}

/* The longest names that leave room for a sample: all that there is to say fits. */
static void longest_names(void) {
    static script server;
    static char name[65];
    uint8_t ring[FLEET_RING(64, 1, 1)];
    int longest = 0;
    for (int length = 1; length <= 64; length++) {
        memset(&server, 0, sizeof server);
        server.piece = 64;
        memset(name, 'n', sizeof name);
        name[length] = 0;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_config config = speed_config(ring, sizeof ring);
        config.cell = config.vehicle = name, config.bytes = 1, config.batch = 64;
        /* A signal of one letter leaves least for `on`, one as long as the others for frames. */
        config.signal = length % 2 ? "s" : name;
        fleet_sensor sensor;
        if (fleet_sensor_init(&sensor, &config, &port)) continue;
        longest = length;
        fleet_sensor_on(&sensor, (UINT64_C(1) << 48) - 1);
        for (int i = 0; i < 64; i++) push(&sensor, NOON, i);
        welcome(&sensor, &server);
        run(&sensor, &server, 3000);
        REQUIRE(heard(&server, "{\"since\":281474976710655}\r\n") && sensor.flights > 0);
        fleet_sensor_off(&sensor);
    }
    REQUIRE(longest > 20);
}

/* Not a word before TLS, and nothing of what stands between INFO and TLS. */
static void secured(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_config config = speed_config(ring, sizeof ring);
    config.token = "s3cret", config.tls = true;
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_OPEN);
    fleet_sensor_opened(&sensor);
    say(&server, "INFO {}\r\n");
    fleet_sensor_poll(&sensor);
    for (int i = 0; i < 5; i++) REQUIRE(fleet_sensor_poll(&sensor) == FLEET_SECURE);
    REQUIRE(server.hearing == 0);
    fleet_sensor_secured(&sensor);
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_NOTHING && heard(&server, "s3cret"));
    /* A server that keeps the handshake waiting is given up. */
    fleet_sensor_closed(&sensor);
    server.hearing = 0;
    run(&sensor, &server, 2000);
    say(&server, "INFO {}\r\n");
    while (fleet_sensor_poll(&sensor) != FLEET_SECURE) {}
    server.now += FLEET_HANDSHAKE;
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_CLOSE);
    fleet_sensor_secured(&sensor);
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_NOTHING && server.hearing == 0);
    run(&sensor, &server, 4000);
    say(&server, "INFO {}\r\nPONG\r\n");
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_CLOSE && server.hearing == 0);
}

/* A server that takes the link and says nothing: tried again ever more rarely, the oldest samples go. */
static void silence(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 1;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    for (int second = 0; second < 600; second++) {
        push(&sensor, NOON + (uint64_t)second * 1000u, second);
        run(&sensor, &server, 1000);
    }
    REQUIRE(server.hearing == 0 && sensor.acknowledged == 0);
    REQUIRE(sensor.dropped == 592 && sensor.count == 8);
    /* 10 s of waiting each, then pauses that double up to a minute: without them it would be 60. */
    REQUIRE(sensor.connects >= 8 && sensor.connects <= 20);
    uint8_t frame[128];
    REQUIRE(fleet_sensor_frame(&sensor, 0, 1, 0, frame) == 14 && frame[12] == (592 & 255) && frame[13] == 592 >> 8);
}

static void wrong_configurations(void) {
    static script server;
    static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890123";
    uint8_t ring[FLEET_RING(8, 2, 4)];
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_config good = speed_config(ring, sizeof ring), c;
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &good, &port) == 0);
    REQUIRE(!fleet_sensor_push(&sensor, 1, &(int32_t){65536}) && !fleet_sensor_push(&sensor, 1, &(int32_t){-32769}));
    REQUIRE(!fleet_sensor_push(&sensor, (uint64_t)1 << 48, &(int32_t){1}) && sensor.count == 0);
    static const char *const no_ids[] = {NULL, "", "a.b", "a b", "*", "a\r\nPUB x", "\xC3\xA4"};
    for (size_t i = 0; i < sizeof no_ids / sizeof *no_ids; i++) {
        c = good, c.vehicle = no_ids[i];
        REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -1);
    }
    c = good, c.signal = "off";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -1);
    c = good, c.batch = 65;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -2);
    c = good, c.ring_bytes = 7;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -3);
    c = good, c.token = "from a file\n";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.token = "a", c.user = "b";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.password = "of nobody";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.jwt = "a", c.nkey = "UABC";
    port.sign = script_sign;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    port.sign = NULL;
    c = good, c.nkey = "UABC";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, port.send = NULL;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -5);
    port.send = script_send;
    c = good, c.cell = c.vehicle = c.signal = longest;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -6);
}

void cases(void) {
    long_info();
    secured();
    silence();
    trip();
    trip_without_a_link();
    beside_it();
    several_in_a_frame();
    full_ring();
#if FLEET_MSG_ID
    ids();
#endif
    dead_links();
    back_off();
    logins();
    longest_names();
    wrong_configurations();
}
