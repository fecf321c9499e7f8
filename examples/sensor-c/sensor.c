/* One sensor, from lines of `ts_ms,value[,value2]` in a file or standard input (-):
 *
 *   sensor [--ring SAMPLES] [--drop] [--seed N] URL CELL VEHICLE SIGNAL FILE
 *
 * sensor-tls, the same with OpenSSL, also takes tls:// as URL, and
 *
 *   --ca FILE     who must have signed the server's certificate, in PEM; the system's CAs without it
 *   --tls-first   TLS before the server's first word, as with its `handshake_first`
 *   --creds FILE  a .creds file, or one with an nkey's seed
 *
 * SIGNAL is position, speed, fuel or brake. Reads on as long as the ring has room and ends when everything is
 * acknowledged. With --drop it reads at once whatever happens, as a sensor measures: a full ring drops. --seed is for
 * tests: as a device that has no other one each time it starts. Exit status 69: no stream takes the samples. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"
#ifdef FLEET_OPENSSL
#include "tls.h"
#endif

static const struct {
    const char *name;
    uint8_t columns, bytes;
    int scale;
} signals[] = {
    {"position", FLEET_POSITION, 7}, {"speed", FLEET_SPEED, 2}, {"fuel", FLEET_FUEL, 2}, {"brake", FLEET_BRAKE, 1}};

static fleet_sensor sensor;
static uint8_t ring[FLEET_RING(65535, 2, 4)];

#ifdef FLEET_OPENSSL
#define PROGRAM "sensor-tls"
#define OPTIONS " [--ca FILE] [--tls-first] [--creds FILE]"
static tls_link link;
static const char *ca;

/* An option with what follows it, or what is wrong with that; how many words it took. */
static int link_option(char **words, const char **wrong) {
    bool more = words[1] != NULL;
    if (strcmp(words[0], "--tls-first") == 0) return link.first = true, 1;
    if (strcmp(words[0], "--ca") == 0 && more) return ca = words[1], 2;
    if (strcmp(words[0], "--creds") == 0 && more) return *wrong = nkey_read(&link.login, words[1]), 2;
    return 0;
}

static const char *link_start(char *url, fleet_config *config, fleet_port *port) {
    if (!tls_url(url, &link, config)) return "the URL is none";
    if (link.first && !config->tls) return "--tls-first is for tls://";
    if (ca && !config->tls) return "--ca is for tls://";
    if (config->tls && !tls_trust(&link, ca)) return "the CAs can't be read";
    if (link.login.key) nkey_configure(&link.login, config);
    /* The core asks for TLS after INFO; here it is there before. */
    if (link.first) config->tls = false;
    *port = tls_port(&link);
    return NULL;
}

static void step(void) {
    tls_poll(&sensor, &link);
    if (*link.error) fprintf(stderr, PROGRAM ": %s\n", link.error);
    *link.error = 0;
}

static void link_end(void) { tls_free(&link); }
#else
#define PROGRAM "sensor"
#define OPTIONS ""
static posix_link link;

static int link_option(char **words, const char **wrong) {
    (void)words, (void)wrong;
    return 0;
}

static const char *link_start(char *url, fleet_config *config, fleet_port *port) {
    if (!posix_url(url, &link, config)) return "the URL is none; tls:// needs sensor-tls (make TLS=1)";
    *port = posix_port(&link);
    return NULL;
}

static void step(void) { posix_poll(&sensor, &link); }
static void link_end(void) { posix_close(&link); }
#endif

static void poll_and_tell(void) {
    static posix_told told;
    step();
    posix_tell(PROGRAM, &sensor, &told);
}

int main(int argc, char **argv) {
    unsigned samples = 64;
    bool drop = false;
    uint32_t seed = (uint32_t)posix_utc();
    const char *wrong = NULL;
    int first = 1, words;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        if (strcmp(argv[first], "--drop") == 0) drop = true;
        else if (strcmp(argv[first], "--ring") == 0 && first + 1 < argc) samples = (unsigned)atoi(argv[++first]);
        else if (strcmp(argv[first], "--seed") == 0 && first + 1 < argc) seed = (uint32_t)strtoul(argv[++first], NULL, 10);
        else if ((words = link_option(argv + first, &wrong)) == 0) break;
        else first += words - 1;
        if (wrong) {
            fprintf(stderr, PROGRAM ": %s: %s\n", argv[first], wrong);
            return 64;
        }
    }
    size_t signal = 0;
    const size_t count = sizeof signals / sizeof *signals;
    while (argc - first == 5 && signal < count && strcmp(argv[first + 3], signals[signal].name) != 0) signal++;
    static posix_lines lines;
    if (argc - first != 5 || !posix_lines_open(&lines, argv[first + 4]) || signal == count || samples == 0 || samples > 65535) {
        fprintf(stderr, "usage: " PROGRAM " [--ring SAMPLES] [--drop] [--seed N]" OPTIONS " URL CELL VEHICLE SIGNAL FILE\n");
        return 64;
    }
    fleet_config config = {0};
    config.cell = argv[first + 1], config.vehicle = argv[first + 2], config.signal = signals[signal].name;
    config.columns = signals[signal].columns, config.bytes = signals[signal].bytes;
    config.batch = 8, config.batch_ms = 200, config.seed = seed;
    config.ring_bytes = FLEET_RING(samples, config.columns, config.bytes);
    config.ring = ring;
    fleet_port port;
    if ((wrong = link_start(argv[first], &config, &port))) {
        fprintf(stderr, PROGRAM ": %s\n", wrong);
        return 64;
    }
    int error = fleet_sensor_init(&sensor, &config, &port);
    if (error) {
        fprintf(stderr, PROGRAM ": the configuration is wrong (%d, see fleet_sensor_init)\n", error);
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
        char *second = strchr(line, ','), *third = second ? strchr(second + 1, ',') : NULL, *end;
        uint64_t ms = strtoull(line, &end, 10);
        if (third) *third = 0;
        int32_t counts[2];
        bool good = second && end == second && posix_scaled(second + 1, signals[signal].scale, &counts[0]);
        if (config.columns == 2) good = good && third && posix_scaled(third + 1, signals[signal].scale, &counts[1]);
        while (!drop && sensor.count == sensor.capacity && !posix_done(&sensor)) poll_and_tell(), posix_sleep(1);
        if (!good || !fleet_sensor_push(&sensor, ms, counts)) fprintf(stderr, PROGRAM ": line %lu can't be used\n", number);
        poll_and_tell();
    }
    while (!posix_done(&sensor)) poll_and_tell(), posix_sleep(1);
    printf("pushed %" PRIu32 " acknowledged %" PRIu32 " dropped %" PRIu32 " resent %" PRIu32 " connects %" PRIu32
           " errors %" PRIu32 "\n", sensor.pushed, sensor.acknowledged, sensor.dropped, sensor.resent, sensor.connects,
           sensor.errors);
    link_end();
    return fleet_sensor_idle(&sensor) ? 0 : 69;
}
