#include "fleet_sensor.h"

#include <string.h>

enum { CLOSED, OPENING, WAIT_INFO, SECURING, CONNECTING, WAIT_PONG, READY };
enum { LIFE_NONE, LIFE_ON, LIFE_OFF };

/* --- small things ------------------------------------------------------------------------------- */

/* Times are compared by what lies between them, which is right across a wrap of the clock. */
static uint32_t now(const fleet_sensor *s) { return s->port.now(s->port.io); }

/* xorshift32: only to spread reconnects. */
static uint32_t roll(fleet_sensor *s) {
    uint32_t x = s->random;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return s->random = x;
}

static void put(fleet_sensor *s, const void *data, size_t length) {
    memcpy(s->out + s->out_length, data, length);
    s->out_length = (uint16_t)(s->out_length + length);
}

static void put_text(fleet_sensor *s, const char *text) { put(s, text, strlen(text)); }

/* Digits from the last to the first, by doubling: a 64-bit division costs a Cortex-M0+ a kilobyte. */
static uint8_t decimal(uint64_t value, uint8_t digits[15]) {
    memset(digits, 0, 15);
    for (int bit = 0; bit < 48; bit++, value <<= 1) {
        uint8_t carry = value >> 47 & 1;
        for (int i = 0; i < 15; i++) {
            digits[i] = (uint8_t)(digits[i] * 2 + carry);
            carry = digits[i] >= 10;
            if (carry) digits[i] = (uint8_t)(digits[i] - 10);
        }
    }
    uint8_t length = 15;
    while (length > 1 && digits[length - 1] == 0) length--;
    return length;
}

static void put_decimal(fleet_sensor *s, uint64_t value) {
    uint8_t digits[15], length = decimal(value, digits);
    while (length) s->out[s->out_length++] = (uint8_t)('0' + digits[--length]);
}

static void put_hex(fleet_sensor *s, uint32_t value, int digits) {
    while (digits-- > 0) s->out[s->out_length++] = (uint8_t) "0123456789abcdef"[(value >> (4 * digits)) & 15];
}

static bool is_id(const char *text) {
    size_t length = 0;
    for (; text && text[length]; length++) {
        char c = text[length];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!good || length == FLEET_ID_MAX) return false;
    }
    return length > 0;
}

/* One way to log in at most, in texts that JSON takes once quotes and backslashes are escaped. */
static bool is_login(const fleet_config *c, const fleet_port *port) {
    const char *const texts[] = {c->password, c->user, c->token, c->jwt, c->nkey};
    uint8_t ways = 0;
    for (uint8_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text = texts[i];
        if (!text) continue;
        for (; *text; text++)
            if ((unsigned char)*text < ' ') return false;
        if (i > 0) ways++;
        if (i > 2 && (!FLEET_AUTH_NKEY || !port->sign)) return false;
    }
    return ways <= 1 && (!c->password || c->user);
}

/* --- the ring ------------------------------------------------------------------------------------ */

static uint8_t *slot(const fleet_sensor *s, uint32_t index) {
    uint32_t at = s->tail + index;
    if (at >= s->capacity) at -= s->capacity;
    return s->config.ring + at * s->stride;
}

static uint64_t time_of(const uint8_t *sample) {
    uint64_t time = 0;
    for (int i = 5; i >= 0; i--) time = time << 8 | sample[i];
    return time;
}

/* Forgets the oldest samples. */
static void forget(fleet_sensor *s, uint32_t samples) {
    uint32_t tail = s->tail + samples;
    s->count = (uint16_t)(s->count - samples);
    s->tail = (uint16_t)(tail < s->capacity ? tail : tail - s->capacity);
}

/* Ends the oldest frames in flight that are over. Frames lie in the ring one behind the other. */
static void land(fleet_sensor *s) {
    while (s->flights && (s->flight[0].acknowledged || s->flight[0].count == 0)) {
        s->acknowledged += s->flight[0].count;
        forget(s, s->flight[0].count);
        s->flights--;
        memmove(s->flight, s->flight + 1, s->flights * sizeof *s->flight);
    }
}

bool fleet_sensor_push(fleet_sensor *s, uint64_t utc_ms, const int32_t *counts) {
    uint8_t bytes = s->config.bytes;
    if (utc_ms >> 48) return false;
    /* Signed and unsigned counts both fit: the receiver knows which it is. */
    for (uint8_t c = 0; c < s->config.columns && bytes < 4; c++)
        if (counts[c] < -(INT32_C(1) << (8 * bytes - 1)) || counts[c] >= INT32_C(1) << (8 * bytes)) return false;
    if (s->count == s->capacity) {
        s->dropped++;
        forget(s, 1);
        /* If it was under way its frame is the shorter, should it go again. */
        if (s->flights) s->flight[0].count--;
        land(s);
    }
    uint8_t *at = slot(s, s->count);
    for (int i = 0; i < 6; i++, utc_ms >>= 8) *at++ = (uint8_t)utc_ms;
    for (uint8_t c = 0; c < s->config.columns; c++)
        for (uint8_t i = 0; i < bytes; i++) *at++ = (uint8_t)((uint32_t)counts[c] >> (8 * i));
    s->count++;
    s->pushed++;
    return true;
}

/* --- frames -------------------------------------------------------------------------------------- */

size_t fleet_sensor_frame(const fleet_sensor *s, uint32_t from, uint32_t count, uint16_t sequence,
                          uint8_t *out) {
    uint8_t *begin = out;
    uint64_t last = time_of(slot(s, from));
    *out++ = 0xF1;
    *out++ = (uint8_t)count;
    *out++ = (uint8_t)sequence;
    *out++ = (uint8_t)(sequence >> 8);
    memcpy(out, slot(s, from), 6);
    out += 6;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *sample = slot(s, from + i);
        uint64_t time = time_of(sample);
        uint32_t delta = (uint32_t)(time - last);
        *out++ = (uint8_t)delta;
        *out++ = (uint8_t)(delta >> 8);
        memcpy(out, sample + 6, s->stride - 6u);
        out += s->stride - 6;
        last = time;
    }
    return (size_t)(out - begin);
}

/* How many samples from there on go into one frame: neither back in time nor too far on. */
static uint32_t frame_samples(const fleet_sensor *s, uint32_t from) {
    uint32_t count = 0, length = 10;
    uint64_t last = time_of(slot(s, from));
    while (count < s->config.batch && from + count < s->count) {
        uint64_t next = time_of(slot(s, from + count));
        length += s->stride - 4;
        if (next - last > 0xFFFF || length > s->room) break;
        last = next;
        count++;
    }
    return count;
}

/* --- commands ------------------------------------------------------------------------------------ */

static void put_token(fleet_sensor *s, const char *text) {
    put_text(s, text);
    put_text(s, ".");
}

static void put_subject(fleet_sensor *s, const char *last) {
    put_token(s, "fleet");
    put_token(s, s->config.cell);
    put_token(s, s->config.vehicle);
    put_text(s, last);
}

/* Its own for each sensor, below what a vehicle's credentials may subscribe to. */
static void put_inbox(fleet_sensor *s) {
    put_token(s, "_INBOX");
    put_token(s, s->config.vehicle);
    put_token(s, s->config.signal);
}

#if FLEET_MSG_ID
/* FNV-1a. */
static uint32_t hash(uint32_t h, const uint8_t *data, size_t length) {
    while (length--) h = (h ^ *data++) * 16777619u;
    return h;
}
#endif

static void publish(fleet_sensor *s, uint32_t from, const fleet_flight *f) {
    /* Written where it stays: after the longest head that there can be. */
    uint8_t *frame = s->out + FLEET_BUFFER - s->room;
    size_t length = fleet_sensor_frame(s, from, f->count, f->sequence, frame);
    uint32_t token = (uint32_t)s->salt << 16 | f->sequence;
    bool id = FLEET_MSG_ID && s->headers;
    put_text(s, id ? "HPUB " : "PUB ");
    put_subject(s, s->config.signal);
    put_text(s, " ");
    put_inbox(s);
    put_hex(s, token, 8);
    put_text(s, " ");
#if FLEET_MSG_ID
    if (id) {
        /* Of subject and inbox, the token and the frame: an id covers what it stands for. A stream that has had
         * one drops what comes under it, and after a reset with the same seed the tokens come again. */
        uint32_t name = hash(2166136261u, s->out, s->out_length);
        put_text(s, "51 ");
        put_decimal(s, 51 + length);
        put_text(s, "\r\nNATS/1.0\r\nNats-Msg-Id: ");
        put_hex(s, name, 8);
        put_hex(s, token, 8);
        put_hex(s, hash(name, frame, length), 8);
        put_text(s, "\r\n\r\n");
    } else
#endif
    {
        put_decimal(s, length);
        put_text(s, "\r\n");
    }
    memmove(s->out + s->out_length, frame, length);
    s->out_length = (uint16_t)(s->out_length + length);
    put_text(s, "\r\n");
}

static void announce(fleet_sensor *s) {
    bool on = s->life == LIFE_ON;
    uint8_t digits[15];
    put_text(s, "PUB ");
    put_subject(s, on ? "on" : "off");
    put_text(s, " ");
    put_inbox(s);
    put_text(s, on ? "on " : "off ");
    put_decimal(s, on ? 10u + decimal(s->since, digits) : 0u);
    put_text(s, "\r\n");
    if (on) {
        put_text(s, "{\"since\":");
        put_decimal(s, s->since);
        put_text(s, "}");
    }
    put_text(s, "\r\n");
}

/* CONNECT and what follows it, piece by piece: a JWT is longer than the buffer. False when there is no more. */
static bool next_piece(fleet_sensor *s) {
    const fleet_config *c = &s->config;
    const struct {
        const char *key, *value;
    } logins[] = {{",\"user\":\"", c->user}, {",\"pass\":\"", c->password}, {",\"auth_token\":\"", c->token},
#if FLEET_AUTH_NKEY
                  {",\"jwt\":\"", c->jwt}, {",\"nkey\":\"", c->nkey}, {",\"sig\":\"", c->jwt || c->nkey ? s->signature : NULL},
#endif
    };
    /* Of a login: its key, its text, a quote, nothing. */
    enum { HEAD, LOGIN, TAIL = LOGIN + 4 * (sizeof logins / sizeof *logins), INBOX, END, DONE };
    while (s->connect_step < DONE) {
        uint8_t at = (uint8_t)(s->connect_step - LOGIN), part = at & 3;
        const char *piece = "";
        if (s->connect_step == HEAD)
            piece = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"0.1\",\"protocol\":0,\"headers\":true";
        else if (s->connect_step == TAIL) piece = "}\r\nSUB ";
        else if (s->connect_step == INBOX) put_inbox(s);
        else if (s->connect_step == END) piece = "* 1\r\nPING\r\n";
        else if (logins[at / 4].value)
            piece = part == 0 ? logins[at / 4].key : part == 1 ? logins[at / 4].value : part == 2 ? "\"" : "";
        for (; piece[s->connect_at]; s->connect_at++) {
            if (s->out_length + 2u > sizeof s->out) return true;
            uint8_t byte = (uint8_t)piece[s->connect_at];
            if (part == 1 && (byte == '"' || byte == '\\')) s->out[s->out_length++] = '\\';
            s->out[s->out_length++] = byte;
        }
        s->connect_step++;
        s->connect_at = 0;
        /* The inbox goes in one piece. */
        if (s->out_length > sizeof s->out / 4) return true;
    }
    return s->out_length > 0;
}

/* --- what the server says ------------------------------------------------------------------------ */

/* Eight digits as put_hex writes them, and nothing else: the token says what may be forgotten. */
static bool from_hex(const char *text, uint32_t *value) {
    for (uint8_t i = 0; i < 8; i++) {
        uint32_t digit = (uint32_t)text[i] - '0';
        if (digit > 9) {
            digit = (uint32_t)text[i] - 'a' + 10;
            if (digit < 10 || digit > 15) return false;
        }
        *value = *value << 4 | digit;
    }
    return true;
}

/* A stream has stored what was sent with this inbox. */
static void acknowledge(fleet_sensor *s) {
    bool on = s->tail_length == 2 && memcmp(s->tail_of, "on", 2) == 0;
    bool off = s->tail_length == 3 && memcmp(s->tail_of, "off", 3) == 0;
    if (s->life_waiting && ((on && s->life == LIFE_ON) || (off && s->life == LIFE_OFF))) {
        s->life_acknowledged = true;
        s->life_waiting = false;
        s->life_unanswered = 0;
    }
    uint32_t token = 0;
    if (s->tail_length != 8 || !from_hex(s->tail_of, &token) || token >> 16 != s->salt) return;
    for (uint8_t i = 0; i < s->flights; i++)
        if (s->flight[i].sequence == (uint16_t)token) s->flight[i].acknowledged = true, s->unanswered = 0;
    land(s);
}

static void end_of_line(fleet_sensor *s) {
    char op = s->op[0];
    if (op == 'P' && s->op[1] == 'I') s->pong_due = true;
    else if (op == 'P') {
        s->pings = 0;
        if (s->state == WAIT_PONG) s->state = READY, s->failures = 0;
    } else if (op == 'I') {
        if (s->state == WAIT_INFO) s->state = s->config.tls ? SECURING : CONNECTING;
    } else if (op == '-') s->errors++;
    else if (op == 'M' || op == 'H') {
        s->in_body = true;
        /* With a header: a status, no acknowledgement. */
        s->body_bad = op == 'H';
        s->body_length = 0;
        s->skip = s->number + 2;
    }
}

/* Of INFO's JSON, of any length, only this is looked at. */
static void info(fleet_sensor *s, char c) {
    static const char headers[] = "\"headers\":true";
    s->matched = c == headers[s->matched] ? (uint8_t)(s->matched + 1) : c == headers[0];
    if (s->matched == sizeof headers - 1) s->headers = true, s->matched = 0;
#if FLEET_AUTH_NKEY
    static const char nonce[] = "\"nonce\":\"";
    if (s->nonce_matched == sizeof nonce - 1) {
        if (c == '"') s->nonce_matched = 0;
        else if (s->nonce_length < sizeof s->nonce - 1) s->nonce[s->nonce_length++] = c;
    } else s->nonce_matched = c == nonce[s->nonce_matched] ? (uint8_t)(s->nonce_matched + 1) : c == nonce[0];
#endif
}

/* A line's byte: kept are the operation, the last token of the subject, and the last number. */
static void in_line(fleet_sensor *s, char c) {
    if (c == '\n') {
        end_of_line(s);
        s->op[0] = 0;
        s->op_length = s->field = s->matched = 0;
        s->number = 0;
        return;
    }
    if (c == '\r') return;
    if (s->field == 0 && c != ' ') {
        if (s->op_length < sizeof s->op) s->op[s->op_length++] = c;
        return;
    }
    if (s->op[0] == 'I') {
        s->field = 1;
        info(s, c);
    } else if (s->op[0] == '-') {
        /* Of a long one its end, where the subject stands. */
        if (s->field == sizeof s->error) memmove(s->error, s->error + 1, --s->field);
        s->error[s->field] = 0;
        if (s->field++) s->error[s->field - 2] = c;
    } else if (c == ' ') {
        if (s->field < UINT8_MAX) s->field++;
        s->number = 0;
        if (s->field == 1) s->tail_length = 0;
    } else if (s->field == 1) {
        if (c == '.') s->tail_length = 0;
        else if (s->tail_length < sizeof s->tail_of) s->tail_of[s->tail_length++] = c;
        else s->tail_of[0] = '?';
    } else if (c >= '0' && c <= '9' && s->number < 100000000) s->number = s->number * 10 + (uint32_t)(c - '0');
}

static void in_body(fleet_sensor *s, uint8_t c) {
    /* With an error it is `{"error":…`. */
    static const char stored[] = "{\"stream";
    if (s->body_length < sizeof s->body) s->body[s->body_length++] = c;
    if (--s->skip) return;
    s->in_body = false;
    if (!s->body_bad && s->body_length == sizeof s->body && memcmp(s->body, stored, sizeof s->body) == 0) acknowledge(s);
}

static bool receive(fleet_sensor *s) {
    uint8_t chunk[32];
    for (int rounds = 0; rounds < 64; rounds++) {
        int got = s->port.receive(s->port.io, chunk, sizeof chunk);
        if (got < 0) return false;
        if (got == 0) return true;
        for (int i = 0; i < got; i++) {
            if (s->in_body) in_body(s, chunk[i]);
            else in_line(s, (char)chunk[i]);
            /* What comes between INFO and TLS anyone may have put there. */
            if (s->state == SECURING) return i + 1 == got;
        }
    }
    return true;
}

/* --- the course of things ------------------------------------------------------------------------ */

void fleet_sensor_opened(fleet_sensor *s) {
    s->state = WAIT_INFO;
    s->connects++;
    s->opened_at = s->pinged_at = now(s);
    s->out_length = s->out_sent = s->connect_at = 0;
    s->connect_step = s->op_length = s->field = s->matched = s->pings = s->unanswered = s->life_unanswered = 0;
    s->in_body = s->headers = s->pong_due = s->life_waiting = false;
    s->op[0] = 0;
    s->number = 0;
#if FLEET_AUTH_NKEY
    s->nonce_length = s->nonce_matched = 0;
#endif
}

/* Not of a link that was given up meanwhile. */
void fleet_sensor_secured(fleet_sensor *s) {
    if (s->state == SECURING) s->state = CONNECTING;
}

/* Exponential, and between half and all of it, so that a fleet doesn't come back at once. */
void fleet_sensor_closed(fleet_sensor *s) {
    uint32_t pause = s->failures < 6 ? 1000u << s->failures : FLEET_BACKOFF_MAX;
    pause = pause / 2 + (roll(s) & 0x7FFF) * pause / 0x10000;
    s->failures = (uint8_t)(s->failures + (s->failures < 6));
    s->closed_at = now(s);
    s->pause = pause;
    s->state = CLOSED;
    /* What was under way may have been lost: all of it is sent again, under the same ids. */
    for (uint8_t i = 0; i < s->flights; i++) s->flight[i].sent = s->closed_at - FLEET_ACK_TIMEOUT;
}

/* Whether an answer has been waited for long enough: what no stream answers goes as rarely as `on`. */
static bool overdue(uint8_t *unanswered, uint32_t waited) {
    bool told = *unanswered == FLEET_TRIES;
    if (waited < (told ? FLEET_ON_EVERY : FLEET_ACK_TIMEOUT)) return false;
    if (!told) ++*unanswered;
    return true;
}

/* The next command, if there is a reason for one. */
static void next_command(fleet_sensor *s, uint32_t time) {
    if (s->pong_due) {
        s->pong_due = false;
        put_text(s, "PONG\r\n");
        return;
    }
    if (time - s->pinged_at >= FLEET_PING_EVERY) {
        s->pinged_at = time;
        s->pings++;
        put_text(s, "PING\r\n");
        return;
    }
    /* A trip without a link is announced too, before its samples and its end. */
    if (s->leaving && (s->life != LIFE_ON || s->life_acknowledged)) {
        s->life = LIFE_OFF;
        s->life_acknowledged = s->life_waiting = s->leaving = false;
    }
    bool off = s->life == LIFE_OFF, repeat = s->life == LIFE_ON && time - s->life_at >= FLEET_ON_EVERY;
    bool unheard = !s->life_acknowledged && (!s->life_waiting || overdue(&s->life_unanswered, time - s->life_at));
    if ((unheard || repeat) && (s->life == LIFE_ON || (off && (s->count == 0 || s->unanswered == FLEET_TRIES)))) {
        s->life_at = s->held_at = time;
        s->life_waiting = true;
        s->life_acknowledged = false;
        announce(s);
        return;
    }
    uint32_t from = 0;
    for (uint8_t i = 0; i < s->flights; i++) {
        fleet_flight *f = &s->flight[i];
        if (!f->acknowledged && overdue(&s->unanswered, time - f->sent)) {
            f->sent = time;
            s->resent++;
            publish(s, from, f);
            return;
        }
        from += f->count;
    }
    s->holding = s->holding && time - s->held_at < FLEET_HOLD;
    /* As long as nothing waits; the first sample that does came after it. */
    if (from == s->count) s->waits_at = time;
    if (s->holding || s->flights == FLEET_WINDOW || from == s->count) return;
    uint32_t count = frame_samples(s, from);
    /* A frame that can't grow any more goes at once. */
    bool whole = count == s->config.batch || from + count < s->count || off;
    if (whole || time - s->waits_at >= s->config.batch_ms) {
        fleet_flight *f = &s->flight[s->flights++];
        f->count = (uint8_t)count, f->sequence = s->sequence++, f->sent = time, f->acknowledged = false;
        publish(s, from, f);
    }
}

/* Sends what waits and makes more of it, as far as the link takes it. False if the link is gone. */
static bool transmit(fleet_sensor *s, uint32_t time) {
    for (int commands = 0; commands < 8; commands++) {
        while (s->out_sent < s->out_length) {
            int taken = s->port.send(s->port.io, s->out + s->out_sent, (size_t)(s->out_length - s->out_sent));
            if (taken < 0) return false;
            if (taken == 0) return true;
            s->out_sent = (uint16_t)(s->out_sent + taken);
        }
        s->out_length = s->out_sent = 0;
        if (s->state == CONNECTING) {
            if (!next_piece(s)) s->state = WAIT_PONG;
        } else if (s->state == READY) next_command(s, time);
        if (s->out_length == 0) return true;
    }
    return true;
}

fleet_want fleet_sensor_poll(fleet_sensor *s) {
    uint32_t time = now(s);
    if (s->state == CLOSED) {
        if (time - s->closed_at < s->pause) return FLEET_NOTHING;
        s->state = OPENING;
        return FLEET_OPEN;
    }
    if (s->state == OPENING) return FLEET_NOTHING;
    bool waited = s->state != READY && time - s->opened_at >= FLEET_HANDSHAKE;
    if (s->state == SECURING && !waited) return FLEET_SECURE;
    bool alive = !waited && receive(s) && s->pings < 3;
#if FLEET_AUTH_NKEY
    if (alive && s->state == CONNECTING && s->connect_step == 0 && s->connect_at == 0 && s->port.sign &&
        (s->config.jwt || s->config.nkey)) {
        s->nonce[s->nonce_length] = 0;
        alive = s->port.sign(s->port.io, s->nonce, s->signature) >= 0;
    }
#endif
    if (alive && transmit(s, time)) return FLEET_NOTHING;
    fleet_sensor_closed(s);
    return FLEET_CLOSE;
}

void fleet_sensor_hold(fleet_sensor *s) {
    s->holding = true;
    s->held_at = now(s);
}

void fleet_sensor_on(fleet_sensor *s, uint64_t since) {
    s->life = LIFE_ON;
    s->since = since;
    s->life_acknowledged = s->life_waiting = s->leaving = false;
    fleet_sensor_hold(s);
}

void fleet_sensor_off(fleet_sensor *s) { s->leaving = true; }

bool fleet_sensor_idle(const fleet_sensor *s) {
    return s->count == 0 && !s->leaving && (s->life == LIFE_NONE || s->life_acknowledged);
}

int fleet_sensor_init(fleet_sensor *s, const fleet_config *c, const fleet_port *port) {
    memset(s, 0, sizeof *s);
    if (!is_id(c->cell) || !is_id(c->vehicle) || !is_id(c->signal)) return -1;
    if (strcmp(c->signal, "on") == 0 || strcmp(c->signal, "off") == 0) return -1;
    bool shape = c->columns > 0 && c->columns <= 16 && (c->bytes == 1 || c->bytes == 2 || c->bytes == 4);
    if (!shape || c->batch == 0 || c->batch > 64) return -2;
    size_t stride = FLEET_RING(1, c->columns, c->bytes);
    if (!c->ring || c->ring_bytes < stride || c->ring_bytes > (size_t)UINT16_MAX * stride) return -3;
    if (!is_login(c, port)) return -4;
    if (!port->send || !port->receive || !port->now) return -5;
    s->config = *c;
    s->port = *port;
    s->stride = (uint16_t)stride;
    /* A division costs a Cortex-M0+ a function of its own. */
    for (size_t left = c->ring_bytes; left >= stride; left -= stride) s->capacity++;
    size_t ids = strlen(c->cell) + 2 * strlen(c->vehicle) + 2 * strlen(c->signal);
    size_t head = ids + (FLEET_MSG_ID ? 104 : 40);
    if (head + 10 + stride > FLEET_BUFFER) return -6;
    s->room = (uint16_t)(FLEET_BUFFER - 2 - head);
    s->random = c->seed ? c->seed : 1;
    for (int i = 0; i < 8; i++) roll(s);
    s->salt = (uint16_t)roll(s);
    return 0;
}
