/* A non-blocking TCP link, the clock and a CSV reader on POSIX, for the programs beside this file. */
#ifndef FLEET_POSIX_H
#define FLEET_POSIX_H

#include "fleet_sensor.h"

typedef struct {
    const char *host, *port;
    int fd;
    unsigned opened; /* how often */
} posix_link;

/* The link's callbacks; `link` must live as long as the sensor. */
fleet_port posix_port(posix_link *link);

/* Opens without waiting for the server; false if there is no address. */
bool posix_open(posix_link *link);
void posix_close(posix_link *link);

/* Polls a sensor and opens and closes its link as it asks. */
void posix_poll(fleet_sensor *sensor, posix_link *link);

/* What was said of a sensor. */
typedef struct {
    uint32_t errors;
    bool samples, life;
} posix_told;

/* Says on standard error what the server refuses, and what no stream takes, each time once. */
void posix_tell(const char *program, const fleet_sensor *sensor, posix_told *told);

/* Whether all is acknowledged but what no stream takes. */
bool posix_done(const fleet_sensor *sensor);

/* Lines of a file or a pipe without waiting for it. */
typedef struct {
    int fd;
    size_t length;
    bool ended;
    char text[4096];
} posix_lines;

/* "-" is standard input; false if the file can't be opened. */
bool posix_lines_open(posix_lines *lines, const char *path);

/* 1: a line, ended by 0 and cut to `size`; 0: none yet; -1: there are no more. */
int posix_lines_next(posix_lines *lines, char *out, size_t size);

/* Milliseconds since 1970. */
uint64_t posix_utc(void);
void posix_sleep(unsigned ms);

/* A program's name by its path. */
const char *posix_name(const char *path);

/* Cuts a line at its commas, and its end off; how many fields there are, up to `most`. */
int posix_fields(char *line, char **fields, int most);

/* "host:port" of a nats:// URL into the link, user and password into the configuration; the text is cut
 * into pieces and must live on. False if it is none: tls:// is tls.h's. */
bool posix_url(char *url, posix_link *link, fleet_config *config);

/* A decimal number times 10^scale, rounded half away from zero; false if it is none or too long. */
bool posix_scaled(const char *text, int scale, int32_t *out);

#endif
