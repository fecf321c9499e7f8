/* One sensor, from lines of `ts_ms,value[,value2]` in a file or standard input (-):
 *
 *   sensor [--ring SAMPLES] [--drop] [--seed N] [--signal NAME=COLUMNS,BYTES,DECIMALS] URL CELL VEHICLE SIGNAL FILE
 *
 * sensor-tls, the same with OpenSSL, also takes tls:// as URL, and
 *
 *   --ca FILE     who must have signed the server's certificate, in PEM; the system's CAs without it
 *   --tls-first   TLS before the server's first word, as with its `handshake_first`
 *   --creds FILE  a .creds file, or one with an nkey's seed
 *
 * SIGNAL is position, speed, fuel, brake, or what --signal describes. Reads on as long as the ring has room and ends
 * when everything is acknowledged. With --drop it reads at once whatever happens, as a sensor measures: a full ring
 * drops. --seed is for tests: as a device that has no other one each time it starts. Exit status 69: no stream takes
 * the samples. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "posix.h"

static const char *program;
static fleet_sensor sensor;
static uint8_t ring[FLEET_RING(65535, SIGNAL_COLUMNS_MAX, 4)];

static void poll_and_tell(void) {
    static posix_told told;
    link_step(0, &sensor, program);
    posix_tell(program, &sensor, &told);
}

/* A line's time and counts; false if it can't be used. */
static bool read_line(char *line, const signal_shape *shape, uint64_t *ms, int32_t *counts) {
    char *fields[1 + SIGNAL_COLUMNS_MAX];
    if (posix_fields(line, fields, 1 + SIGNAL_COLUMNS_MAX) < 1 + shape->columns) return false;
    char *end;
    *ms = strtoull(fields[0], &end, 10);
    return *end == 0 && end != fields[0] && signal_counts(shape, fields + 1, counts);
}

int main(int argc, char **argv) {
    unsigned samples = 64;
    bool drop = false;
    uint32_t seed = (uint32_t)posix_utc();
    const char *wrong = NULL;
    int first = 1, words;
    program = posix_name(argv[0]);
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        const char *option = argv[first];
        bool more = first + 1 < argc;
        if (strcmp(option, "--drop") == 0) drop = true;
        else if (strcmp(option, "--ring") == 0 && more) samples = (unsigned)atoi(argv[++first]);
        else if (strcmp(option, "--seed") == 0 && more) seed = (uint32_t)strtoul(argv[++first], NULL, 10);
        else if (strcmp(option, "--signal") == 0 && more) wrong = signal_add(argv[++first]);
        else if ((words = link_option(argv + first, &wrong)) == 0) break;
        else first += words - 1;
        if (wrong) {
            fprintf(stderr, "%s: %s: %s\n", program, option, wrong);
            return 64;
        }
    }
    bool complete = argc - first == 5;
    int signal = complete ? signal_find(argv[first + 3]) : -1;
    static posix_lines lines;
    if (signal < 0 || !posix_lines_open(&lines, argv[first + 4]) || samples == 0 || samples > 65535) {
        fprintf(stderr, "usage: %s [--ring SAMPLES] [--drop] [--seed N] [--signal NAME=COLUMNS,BYTES,DECIMALS]%s"
                        " URL CELL VEHICLE SIGNAL FILE\n", program, link_options);
        return 64;
    }
    const signal_shape *shape = &signal_shapes[signal];
    fleet_config config = {0};
    config.cell = argv[first + 1], config.vehicle = argv[first + 2];
    signal_configure(shape, &config);
    config.batch = 8, config.batch_ms = 200, config.seed = seed;
    config.ring_bytes = FLEET_RING(samples, config.columns, config.bytes);
    config.ring = ring;
    fleet_port port;
    if ((wrong = link_start(0, argv[first], &config, &port))) {
        fprintf(stderr, "%s: %s\n", program, wrong);
        return 64;
    }
    int error = fleet_sensor_init(&sensor, &config, &port);
    if (error) {
        fprintf(stderr, "%s: the configuration is wrong (%d, see fleet_sensor_init)\n", program, error);
        return 64;
    }
    char line[128];
    unsigned long number = 0;
    for (int got; (got = posix_lines_next(&lines, line, sizeof line)) >= 0;) {
        if (got == 0) {
            poll_and_tell();
            posix_sleep(1);
            continue;
        }
        number++;
        uint64_t ms;
        int32_t counts[SIGNAL_COLUMNS_MAX];
        bool good = read_line(line, shape, &ms, counts);
        while (!drop && sensor.count == sensor.capacity && !posix_done(&sensor)) poll_and_tell(), posix_sleep(1);
        if (!good || !fleet_sensor_push(&sensor, ms, counts))
            fprintf(stderr, "%s: line %lu can't be used\n", program, number);
        poll_and_tell();
    }
    while (!posix_done(&sensor)) poll_and_tell(), posix_sleep(1);
    printf("pushed %" PRIu32 " acknowledged %" PRIu32 " dropped %" PRIu32 " resent %" PRIu32 " connects %" PRIu32
           " errors %" PRIu32 "\n", sensor.pushed, sensor.acknowledged, sensor.dropped, sensor.resent, sensor.connects,
           sensor.errors);
    link_end();
    return fleet_sensor_idle(&sensor) ? 0 : 69;
}
