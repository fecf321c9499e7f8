#define _POSIX_C_SOURCE 200809L
#include "tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static bool would_block(SSL *ssl, int result) {
    int error = SSL_get_error(ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static int link_send(void *io, const uint8_t *data, size_t length) {
    tls_link *link = io;
    if (!link->ssl) return posix_port(&link->socket).send(&link->socket, data, length);
    ERR_clear_error();
    int sent = SSL_write(link->ssl, data, (int)length);
    return sent > 0 ? sent : would_block(link->ssl, sent) ? 0 : -1;
}

static int link_receive(void *io, uint8_t *data, size_t length) {
    tls_link *link = io;
    if (!link->ssl) return posix_port(&link->socket).receive(&link->socket, data, length);
    ERR_clear_error();
    int got = SSL_read(link->ssl, data, (int)length);
    return got > 0 ? got : would_block(link->ssl, got) ? 0 : -1;
}

static int link_sign(void *io, const char *nonce, char *out) {
    const tls_link *link = io;
    return nkey_sign(&link->login, nonce, out);
}

static uint32_t now(void) { return posix_port(NULL).now(NULL); }

fleet_port tls_port(tls_link *link) {
    fleet_port port = {link, link_send, link_receive, posix_port(&link->socket).now, link_sign};
    return port;
}

bool tls_url(char *url, tls_link *link, fleet_config *config) {
    config->tls = strncmp(url, "tls://", 6) == 0;
    return posix_url(config->tls ? url + 6 : url, &link->socket, config);
}

bool tls_trust(tls_link *link, const char *ca) {
    /* A link that breaks is an error of SSL_write, not the end of the program. */
    signal(SIGPIPE, SIG_IGN);
    link->context = SSL_CTX_new(TLS_client_method());
    if (!link->context) return false;
    SSL_CTX_set_min_proto_version(link->context, TLS1_2_VERSION);
    SSL_CTX_set_verify(link->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(link->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!ca) return SSL_CTX_set_default_verify_paths(link->context) == 1;
    return SSL_CTX_load_verify_locations(link->context, ca, NULL) == 1;
}

/* A session that takes only a certificate for the host of the URL. */
static bool begin(tls_link *link) {
    const char *host = link->socket.host;
    link->ssl = link->context ? SSL_new(link->context) : NULL;
    if (!link->ssl || SSL_set_fd(link->ssl, link->socket.fd) != 1) return false;
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(link->ssl), host) == 1) return true;
    SSL_set_hostflags(link->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(link->ssl, host) == 1 && SSL_set_tlsext_host_name(link->ssl, host) == 1;
}

static void fail(tls_link *link) {
    long verdict = link->ssl ? SSL_get_verify_result(link->ssl) : X509_V_OK;
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (verdict != X509_V_OK)
        snprintf(link->error, sizeof link->error, "the certificate of %s is refused: %s", link->socket.host,
                 X509_verify_cert_error_string(verdict));
    else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER)
        snprintf(link->error, sizeof link->error, "%s speaks no TLS on this port", link->socket.host);
    else
        snprintf(link->error, sizeof link->error, "the TLS handshake with %s failed: %s", link->socket.host,
                 reason ? reason : "the link is gone");
}

/* 1: done, and the certificate is good; 0: not yet; -1: failed, and said why. */
static int handshake(tls_link *link) {
    ERR_clear_error();
    if (link->ssl || begin(link)) {
        int result = SSL_connect(link->ssl);
        if (result == 1) return 1;
        if (would_block(link->ssl, result)) return 0;
    }
    fail(link);
    return -1;
}

static void close_link(tls_link *link) {
    SSL_free(link->ssl);
    link->ssl = NULL;
    link->opening = false;
    posix_close(&link->socket);
}

static void closed(fleet_sensor *sensor, tls_link *link) {
    close_link(link);
    fleet_sensor_closed(sensor);
}

/* TLS before INFO: to the sensor the link is not open until then. */
static void open_first(fleet_sensor *sensor, tls_link *link) {
    int done = handshake(link);
    if (done > 0) {
        link->opening = false;
        fleet_sensor_opened(sensor);
    } else if (done < 0) {
        closed(sensor, link);
    } else if (now() - link->opening_at >= FLEET_HANDSHAKE) {
        snprintf(link->error, sizeof link->error, "no TLS handshake from %s in time", link->socket.host);
        closed(sensor, link);
    }
}

void tls_poll(fleet_sensor *sensor, tls_link *link) {
    if (link->opening) {
        open_first(sensor, link);
        return;
    }
    switch (fleet_sensor_poll(sensor)) {
    case FLEET_NOTHING: break;
    case FLEET_OPEN:
        if (!posix_open(&link->socket)) fleet_sensor_closed(sensor);
        else if (link->first) link->opening = true, link->opening_at = now();
        else fleet_sensor_opened(sensor);
        break;
    case FLEET_SECURE: {
        int done = handshake(link);
        if (done > 0) fleet_sensor_secured(sensor);
        else if (done < 0) closed(sensor, link);
        break;
    }
    case FLEET_CLOSE: close_link(link); break;
    }
}

void tls_free(tls_link *link) {
    close_link(link);
    SSL_CTX_free(link->context);
    link->context = NULL;
    nkey_free(&link->login);
}
