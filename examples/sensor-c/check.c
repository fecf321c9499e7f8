/* Checks without a server. `check vectors FILE` writes the frames of docs/wire-format-vectors.txt again and
 * compares; `check cases` plays servers that say much, little and nothing; `check parse SEED ROUNDS` feeds the
 * protocol's reader with good and spoilt bytes in random pieces; `check replay FILE...` with inputs of fuzz.c. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"

#define REQUIRE(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)

/* A server that says what it is told to, in pieces, and keeps the end of what it hears. */
typedef struct {
    const uint8_t *data;
    size_t length, at, piece, sent;
    uint32_t now;
    char heard[4096];
    size_t hearing;
} script;

static int script_send(void *io, const uint8_t *data, size_t length) {
    script *s = io;
    /* Now and then only a part. */
    size_t taken = ++s->sent % 3 == 0 ? (length + 1) / 2 : length;
    for (size_t i = 0; i < taken; i++) s->heard[s->hearing++ % sizeof s->heard] = (char)data[i];
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

static uint32_t script_now(void *io) { return ((script *)io)->now; }

/* Of fuzz.c. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static uint32_t dice;

static uint32_t roll(void) {
    dice ^= dice << 13, dice ^= dice >> 17, dice ^= dice << 5;
    return dice;
}

static void parse(uint32_t seed, unsigned long rounds) {
    static const char *good[] = {
        "INFO {\"server_id\":\"N\",\"headers\":true,\"nonce\":\"abcdef\",\"max_payload\":1048576}\r\n", "PONG\r\n", "PING\r\n",
        "+OK\r\n", "-ERR 'Authorization Violation'\r\n", "MSG _INBOX.V.speed.on 1 28\r\n{\"stream\":\"L\",\"seq\":1}\r\n",
        "MSG _INBOX.V.speed.00000000 1 30\r\n{\"stream\":\"T\",\"seq\":12345678}\r\n", "HMSG a 1 12 12\r\nNATS/1.0 503\r\n",
        "MSG _INBOX.V.speed.00010001 1 33\r\n{\"error\":{\"code\":503,\"a\":\"bcdef\"}}\r\n", "MSG x 1 0\r\n\r\n", "MSG x 1 99999999999\r\n"};
    dice = seed ? seed : 1;
    for (; rounds; rounds--) {
        uint8_t data[1024];
        size_t length = 4;
        for (int i = 0; i < 4; i++) data[i] = (uint8_t)roll();
        while (length < 700 && roll() % 16) {
            const char *piece = good[length == 4 && roll() % 4 ? 0 : roll() % (sizeof good / sizeof *good)];
            memcpy(data + length, piece, strlen(piece));
            length += strlen(piece);
        }
        for (uint32_t spoil = roll() % 4; spoil; spoil--) data[roll() % length] = (uint8_t)roll();
        LLVMFuzzerTestOneInput(data, length);
    }
}

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

/* Frames have zeros in them. */
static bool heard(const script *server, const char *text) {
    size_t length = strlen(text);
    REQUIRE(server->hearing < sizeof server->heard);
    for (size_t at = 0; at + length <= server->hearing; at++)
        if (memcmp(server->heard + at, text, length) == 0) return true;
    return false;
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
    fleet_sensor_on(&sensor, 1735689600000u);
    say(&server, info);
    for (int i = 0; i < 4; i++) REQUIRE(fleet_sensor_push(&sensor, 1735689600000u + (uint64_t)i, &(int32_t){i}));
    run(&sensor, &server, 1500);
    REQUIRE(heard(&server, "CONNECT {") && heard(&server, "SUB _INBOX.V.speed.* 1\r\nPING\r\n"));
    REQUIRE(!heard(&server, "PUB "));
    say(&server, "PO");
    run(&sensor, &server, 100);
    say(&server, "NG\r\n");
    run(&sensor, &server, 100);
    REQUIRE(heard(&server, "PUB fleet.0.V.on _INBOX.V.speed.on 23\r\n{\"since\":1735689600000}\r\n"));
    /* Samples wait for 2 s after `on`, and then go with an id, because the server takes headers. */
    REQUIRE(!heard(&server, "HPUB"));
    run(&sensor, &server, 2000);
    REQUIRE(heard(&server, "HPUB fleet.0.V.speed _INBOX.V.speed.") && heard(&server, "Nats-Msg-Id: "));
    REQUIRE(sensor.count == 4 && !fleet_sensor_idle(&sensor));
    /* An error is no acknowledgement; the same frame goes again. */
    char answer[128];
    const char *says[] = {"{\"error\":{\"code\":503}}", "{\"stream\":\"T\",\"seq\":9}"};
    for (int i = 0; i < 2; i++) {
        REQUIRE(sensor.acknowledged == 0);
        int length = snprintf(answer, sizeof answer, "MSG _INBOX.V.speed.%04x%04x 1 %zu\r\n%s\r\n", sensor.salt, 0,
                              strlen(says[i]), says[i]);
        REQUIRE(length < (int)sizeof answer);
        say(&server, answer);
        run(&sensor, &server, 6000);
    }
    REQUIRE(sensor.acknowledged == 4 && sensor.resent > 0 && sensor.count == 0);
    say(&server, "MSG _INBOX.V.speed.on 1 22\r\n{\"stream\":\"L\",\"seq\":1}\r\n");
    run(&sensor, &server, 100);
    REQUIRE(fleet_sensor_idle(&sensor));
    fleet_sensor_off(&sensor);
    run(&sensor, &server, 100);
    REQUIRE(heard(&server, "PUB fleet.0.V.off _INBOX.V.speed.off 0\r\n\r\n"));
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
        REQUIRE(fleet_sensor_push(&sensor, 1735689600000u + (uint64_t)second * 1000u, &(int32_t){second}));
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
    c = good, c.vehicle = "a.b";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -1);
    c = good, c.batch = 65;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -2);
    c = good, c.ring_bytes = 7;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -3);
    c = good, c.user = "a\"b", c.password = "c";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.nkey = "UABC";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.vehicle = longest, c.signal = longest;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -6);
}

static int unhex(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* `frame` vectors are what an encoder writes. */
static int vectors(const char *path) {
    static const struct {
        const char *name;
        uint8_t columns, bytes;
        int scale;
    } signals[] = {{"position", FLEET_POSITION, 7}, {"speed", FLEET_SPEED, 2}, {"fuel", FLEET_FUEL, 2}, {"brake", FLEET_BRAKE, 1}};
    FILE *file = fopen(path, "r");
    REQUIRE(file);
    char line[4096];
    int frames = 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "frame ", 6) != 0) continue;
        char *name = strtok(line + 6, " \n"), *sequence = strtok(NULL, " \n"), *hex = strtok(NULL, " \n"), *sample;
        int i = 0;
        while (strcmp(signals[i].name, name) != 0) REQUIRE(++i < 4);
        static uint8_t ring[FLEET_RING(64, 2, 4)];
        fleet_config config = speed_config(ring, sizeof ring);
        config.signal = name, config.columns = signals[i].columns, config.bytes = signals[i].bytes, config.batch = 64;
        static script server;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_sensor sensor;
        REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
        while ((sample = strtok(NULL, " \n"))) {
            char *value = strchr(sample, ':');
            *value++ = 0;
            char *second = strchr(value, ',');
            if (second) *second++ = 0;
            int32_t counts[2];
            REQUIRE(posix_scaled(value, signals[i].scale, &counts[0]));
            if (second) REQUIRE(posix_scaled(second, signals[i].scale, &counts[1]));
            /* After the year 10889 the ring has no bits. */
            uint64_t ms = strtoull(sample, NULL, 10);
            if (ms >> 48) break;
            REQUIRE(fleet_sensor_push(&sensor, ms, counts));
        }
        if (sample) continue;
        uint8_t frame[1024];
        size_t length = fleet_sensor_frame(&sensor, 0, sensor.count, (uint16_t)atoi(sequence), frame);
        REQUIRE(strlen(hex) == 2 * length);
        for (size_t at = 0; at < length; at++) REQUIRE(frame[at] == unhex(hex[2 * at]) * 16 + unhex(hex[2 * at + 1]));
        frames++;
    }
    fclose(file);
    printf("%d frames\n", frames);
    return frames ? 0 : 1;
}

static void replay(const char *path) {
    static uint8_t data[65536];
    FILE *file = fopen(path, "rb");
    REQUIRE(file);
    size_t length = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, length);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "vectors") == 0) return vectors(argv[2]);
    if (argc == 2 && strcmp(argv[1], "cases") == 0) {
        long_info();
        secured();
        silence();
        wrong_configurations();
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "parse") == 0) {
        parse((uint32_t)strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
        return 0;
    }
    if (argc >= 3 && strcmp(argv[1], "replay") == 0) {
        for (int i = 2; i < argc; i++) replay(argv[i]);
        return 0;
    }
    fprintf(stderr, "usage: check vectors FILE | cases | parse SEED ROUNDS | replay FILE...\n");
    return 64;
}
