#include "nkey.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

/* First bytes of an nkey; with the five bits of each, base32 begins with the letter. */
enum { PREFIX_SEED = 18 << 3, PREFIX_USER = 20 << 3 };

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* CRC-16/XMODEM. */
static unsigned crc16(const uint8_t *data, size_t length) {
    unsigned crc = 0;
    while (length--) {
        crc ^= (unsigned)*data++ << 8;
        for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xFFFF;
    }
    return crc;
}

/* Of exactly that many bytes. */
static bool decode(const char *text, size_t characters, uint8_t *out, size_t bytes) {
    uint32_t bits = 0;
    int held = 0;
    size_t length = 0;
    for (; characters--; text++) {
        const char *found = *text ? strchr(base32, *text) : NULL;
        if (!found) return false;
        bits = bits << 5 | (uint32_t)(found - base32);
        held += 5;
        if (held < 8) continue;
        held -= 8;
        if (length == bytes) return false;
        out[length++] = (uint8_t)(bits >> held);
    }
    return length == bytes;
}

static void encode(const uint8_t *data, size_t bytes, char *out) {
    for (size_t bit = 0; bit < 8 * bytes; bit += 5) {
        unsigned two = data[bit / 8] * 256u + (bit / 8 + 1 < bytes ? data[bit / 8 + 1] : 0);
        *out++ = base32[two >> (11 - bit % 8) & 31];
    }
    *out = 0;
}

static bool take_seed(nkey_login *login, const char *text, size_t characters) {
    uint8_t raw[36], public_key[35] = {PREFIX_USER};
    bool good = decode(text, characters, raw, sizeof raw);
    good = good && crc16(raw, 34) == (raw[34] | (unsigned)raw[35] << 8);
    good = good && (raw[0] & 0xF8) == PREFIX_SEED && ((raw[0] & 7) << 5 | raw[1] >> 3) == PREFIX_USER;
    size_t length = 32;
    if (good) login->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw + 2, 32);
    OPENSSL_cleanse(raw, sizeof raw);
    if (!login->key || EVP_PKEY_get_raw_public_key(login->key, public_key + 1, &length) != 1) return false;
    unsigned crc = crc16(public_key, 33);
    public_key[33] = (uint8_t)crc, public_key[34] = (uint8_t)(crc >> 8);
    encode(public_key, sizeof public_key, login->public_key);
    return true;
}

/* The line after the one with this mark, without white space around it; NULL if there is none. */
static const char *line_after(const char *text, const char *mark, size_t *length) {
    static const char space[] = " \t\r\n";
    text = strstr(text, mark);
    if (text) text = strchr(text, '\n');
    if (!text) return NULL;
    text += strspn(text, space);
    *length = strcspn(text, space);
    return text;
}

static const char *take(nkey_login *login, const char *text) {
    size_t length;
    const char *jwt = line_after(text, "BEGIN NATS USER JWT-", &length);
    if (jwt) {
        if (length >= sizeof login->jwt) return "the JWT is too long";
        memcpy(login->jwt, jwt, length);
        /* It goes into CONNECT's JSON as it is. */
        const char *plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
        if (length == 0 || strspn(login->jwt, plain) != length) return "what should be its JWT is none";
    }
    const char *seed = line_after(text, "BEGIN USER NKEY SEED-", &length);
    if (!seed && !jwt) {
        seed = text + strspn(text, " \t\r\n");
        length = strcspn(seed, " \t\r\n");
    }
    if (!seed || !take_seed(login, seed, length)) return "no user's nkey seed (SU...) is in it";
    return NULL;
}

const char *nkey_read(nkey_login *login, const char *path) {
    static char text[8192];
    memset(login, 0, sizeof *login);
    FILE *file = fopen(path, "r");
    if (!file) return "it can't be opened";
    /* Nothing of the seed stays behind in a buffer of the library. */
    setvbuf(file, NULL, _IONBF, 0);
    size_t length = fread(text, 1, sizeof text - 1, file);
    text[length] = 0;
    const char *wrong = fgetc(file) != EOF ? "it is too long" : take(login, text);
    fclose(file);
    OPENSSL_cleanse(text, sizeof text);
    if (wrong) nkey_free(login);
    return wrong;
}

void nkey_configure(const nkey_login *login, fleet_config *config) {
    if (*login->jwt) config->jwt = login->jwt;
    else config->nkey = login->public_key;
}

int nkey_sign(const nkey_login *login, const char *nonce, char *out) {
    uint8_t signature[64], text[89];
    size_t length = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = login->key && context && EVP_DigestSignInit(context, NULL, NULL, NULL, login->key) == 1 &&
                EVP_DigestSign(context, signature, &length, (const uint8_t *)nonce, strlen(nonce)) == 1;
    EVP_MD_CTX_free(context);
    if (!good) return -1;
    EVP_EncodeBlock(text, signature, (int)length);
    for (int i = 0; i < 86; i++) out[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : (char)text[i];
    out[86] = 0;
    return 0;
}

void nkey_free(nkey_login *login) {
    EVP_PKEY_free(login->key);
    memset(login, 0, sizeof *login);
}
