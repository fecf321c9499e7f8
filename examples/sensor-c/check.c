/* Checks without a server. `check vectors FILE` writes the frames of docs/wire-format-vectors.txt again and
 * compares; `check cases` plays servers that say much, little and nothing; `check parse SEED ROUNDS` feeds the
 * protocol's reader with good and spoilt bytes in random pieces; `check replay FILE...` with inputs of fuzz.c. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"
#include "signals.h"

#define REQUIRE(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)

/* Of fuzz.c, cases_link.c and cases_trip.c. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
void link_cases(void);
void trip_cases(void);

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

static int unhex(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* `frame` vectors are what an encoder writes. */
static int vectors(const char *path) {
    FILE *file = fopen(path, "r");
    REQUIRE(file);
    char line[4096];
    int frames = 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "frame ", 6) != 0) continue;
        char *name = strtok(line + 6, " \n"), *sequence = strtok(NULL, " \n"), *hex = strtok(NULL, " \n"), *sample;
        int signal = signal_find(name);
        REQUIRE(signal >= 0);
        const signal_shape *shape = &signal_shapes[signal];
        static uint8_t ring[FLEET_RING(64, 2, 4)];
        fleet_config config = {0};
        config.cell = "0", config.vehicle = "V";
        signal_configure(shape, &config);
        config.batch = 64, config.ring = ring, config.ring_bytes = sizeof ring;
        static posix_link link;
        fleet_port port = posix_port(&link);
        fleet_sensor sensor;
        REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
        while ((sample = strtok(NULL, " \n"))) {
            char *value = strchr(sample, ':');
            *value++ = 0;
            char *second = strchr(value, ',');
            if (second) *second++ = 0;
            int32_t counts[2];
            REQUIRE(posix_scaled(value, shape->decimals, &counts[0]));
            if (second) REQUIRE(posix_scaled(second, shape->decimals, &counts[1]));
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
        link_cases();
        trip_cases();
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
