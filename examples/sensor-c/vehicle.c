/* One vehicle, one NATS client per signal, from a recording:
 *
 *   vehicle [--now] [--speed N] [--signal NAME=COLUMNS,BYTES,DECIMALS]... URL CELL VEHICLE FILE
 *
 * FILE is CSV with vehicle,signal,ts_ms,value,value2 in the order of time; rows of other vehicles are passed
 * over. --now moves the recording so that it begins now, --speed plays it faster, --signal describes a signal beyond
 * the scenario's four. vehicle-tls, the same with OpenSSL, has the options of sensor-tls too. The position's client says
 * `on` and `off`. Ends when everything is acknowledged, with a line per signal on standard output. Exit status 65:
 * the recording has nothing of the vehicle; 69: there is a signal that no stream takes, the others' samples are
 * acknowledged. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "posix.h"

enum { SAMPLES = 512 };

static const char *program;
static fleet_sensor sensors[SIGNALS_MAX];
static uint8_t rings[SIGNALS_MAX][FLEET_RING(SAMPLES, SIGNAL_COLUMNS_MAX, 4)];

static bool poll_all(void) {
    static posix_told told[SIGNALS_MAX];
    bool done = true;
    for (size_t i = 0; i < signal_count; i++) {
        link_step(i, &sensors[i], program);
        posix_tell(program, &sensors[i], &told[i]);
        done = done && posix_done(&sensors[i]);
    }
    return done;
}

/* False, and said why, if something is wrong. */
static bool start(const char *url, const char *cell, const char *vehicle) {
    for (size_t i = 0; i < signal_count; i++) {
        fleet_config config = {0};
        config.cell = cell, config.vehicle = vehicle;
        signal_configure(&signal_shapes[i], &config);
        config.batch = 8, config.batch_ms = 500;
        config.seed = (uint32_t)posix_utc() + (uint32_t)i * 2654435761u;
        config.ring = rings[i], config.ring_bytes = FLEET_RING(SAMPLES, config.columns, config.bytes);
        fleet_port port;
        char *own = strdup(url);
        const char *wrong = own ? link_start(i, own, &config, &port) : "no memory";
        if (wrong) {
            fprintf(stderr, "%s: %s\n", program, wrong);
            return false;
        }
        int error = fleet_sensor_init(&sensors[i], &config, &port);
        if (error) {
            fprintf(stderr, "%s: the configuration is wrong (%d, see fleet_sensor_init)\n", program, error);
            return false;
        }
    }
    return true;
}

/* All are switched on together; one says so. */
static void switch_on(uint64_t since) {
    for (size_t i = 0; i < signal_count; i++) fleet_sensor_hold(&sensors[i]);
    fleet_sensor_on(&sensors[0], since);
}

/* The recording's other vehicles, for who has misspelt one: the first few. */
static char others[8][66];
static unsigned more_others;

static void note(const char *vehicle) {
    size_t i = 0, length = strlen(vehicle);
    for (; i < sizeof others / sizeof *others && *others[i]; i++)
        if (strncmp(others[i], vehicle, sizeof *others - 1) == 0) return;
    if (i == sizeof others / sizeof *others) more_others++;
    else memcpy(others[i], vehicle, length < sizeof *others ? length : sizeof *others - 1);
}

static int nothing_of(const char *vehicle, const char *file) {
    fprintf(stderr, "%s: nothing in %s is of %s, it has", program, file, vehicle);
    for (size_t i = 0; i < sizeof others / sizeof *others && *others[i]; i++)
        fprintf(stderr, "%s %s", i ? "," : "", others[i]);
    fprintf(stderr, "%s\n", more_others ? ", ..." : *others[0] ? "" : " no vehicle");
    return 65;
}

/* A row's signal, time and counts; -1 if it is another vehicle's or no signal we know, -2 if it is wrong. */
static int row(char *line, const char *vehicle, uint64_t *ms, int32_t *counts) {
    char *fields[3 + SIGNAL_COLUMNS_MAX];
    int found = posix_fields(line, fields, 3 + SIGNAL_COLUMNS_MAX);
    if (found < 4) return -2;
    if (strcmp(fields[0], vehicle) != 0) {
        if (strcmp(fields[0], "vehicle") != 0) note(fields[0]);
        return -1;
    }
    int signal = signal_find(fields[1]);
    if (signal < 0) return -1;
    char *end;
    *ms = strtoull(fields[2], &end, 10);
    if (*end || end == fields[2] || found < 3 + signal_shapes[signal].columns) return -2;
    return signal_counts(&signal_shapes[signal], fields + 3, counts) ? signal : -2;
}

int main(int argc, char **argv) {
    bool move = false;
    double speed = 1;
    const char *wrong = NULL;
    int first = 1, words;
    program = posix_name(argv[0]);
    for (; first < argc && argv[first][0] == '-'; first++) {
        const char *option = argv[first];
        bool more = first + 1 < argc;
        if (strcmp(option, "--now") == 0) move = true;
        else if (strcmp(option, "--speed") == 0 && more) speed = atof(argv[++first]);
        else if (strcmp(option, "--signal") == 0 && more) wrong = signal_add(argv[++first]);
        else if ((words = link_option(argv + first, &wrong)) == 0) break;
        else first += words - 1;
        if (wrong) {
            fprintf(stderr, "%s: %s: %s\n", program, option, wrong);
            return 64;
        }
    }
    FILE *file = argc - first == 4 ? fopen(argv[first + 3], "r") : NULL;
    if (!file || !(speed > 0)) {
        fprintf(stderr, "usage: %s [--now] [--speed N] [--signal NAME=COLUMNS,BYTES,DECIMALS]...%s URL CELL VEHICLE FILE\n",
                program, link_options);
        return 64;
    }
    if (!start(argv[first], argv[first + 1], argv[first + 2])) return 64;
    uint64_t begun = 0, offset = 0;
    char line[256];
    unsigned long number = 0;
    bool began = false;
    uint64_t from = 0;
    while (fgets(line, sizeof line, file)) {
        uint64_t ms;
        int32_t counts[SIGNAL_COLUMNS_MAX];
        int signal = row(line, argv[first + 2], &ms, counts);
        number++;
        if (signal == -2 && number > 1) fprintf(stderr, "%s: line %lu can't be used\n", program, number);
        if (signal < 0) continue;
        if (!began) {
            began = true, begun = posix_utc(), from = ms, offset = move ? begun - ms : 0;
            switch_on(begun);
        }
        double wait = (double)(ms - from) / speed;
        while ((double)(posix_utc() - begun) < wait) poll_all(), posix_sleep(5);
        if (!fleet_sensor_push(&sensors[signal], ms + offset, counts))
            fprintf(stderr, "%s: line %lu doesn't fit the wire\n", program, number);
        poll_all();
    }
    if (!began) return nothing_of(argv[first + 2], argv[first + 3]);
    fleet_sensor_off(&sensors[0]);
    while (!poll_all()) posix_sleep(5);
    bool all = true;
    for (size_t i = 0; i < signal_count; i++) {
        const fleet_sensor *s = &sensors[i];
        printf("%s pushed %" PRIu32 " acknowledged %" PRIu32 " dropped %" PRIu32 " resent %" PRIu32 " connects %" PRIu32
               "\n", signal_shapes[i].name, s->pushed, s->acknowledged, s->dropped, s->resent, s->connects);
        all = all && fleet_sensor_idle(s);
    }
    link_end();
    return all ? 0 : 69;
}
