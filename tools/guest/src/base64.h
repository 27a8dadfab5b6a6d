/* Base64 of RFC 4648, with padding, no line breaks. Header-only: two small programs share it. */
#ifndef UMBRA_BASE64_H
#define UMBRA_BASE64_H

#include <stddef.h>
#include <stdint.h>

static const char BASE64_ALPHABET[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Writes 4 * ceil(size / 3) characters to `out`, no terminator. Returns how many. */
static size_t base64_encode(const uint8_t *in, size_t size, char *out) {
  size_t used = 0;
  for (size_t i = 0; i < size; i += 3) {
    size_t left = size - i;
    uint32_t triple = (uint32_t)in[i] << 16;
    if (left > 1) triple |= (uint32_t)in[i + 1] << 8;
    if (left > 2) triple |= in[i + 2];
    out[used++] = BASE64_ALPHABET[triple >> 18 & 63];
    out[used++] = BASE64_ALPHABET[triple >> 12 & 63];
    out[used++] = left > 1 ? BASE64_ALPHABET[triple >> 6 & 63] : '=';
    out[used++] = left > 2 ? BASE64_ALPHABET[triple & 63] : '=';
  }
  return used;
}

static int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

/* `out` may be `in`. Returns the decoded size, or -1 for anything malformed. */
static long base64_decode(const char *in, size_t length, char *out) {
  if (length % 4 != 0) return -1;
  size_t padding = 0;
  while (padding < 2 && padding < length && in[length - 1 - padding] == '=') padding++;
  size_t digits = length - padding;
  uint32_t bits = 0;
  long used = 0;
  for (size_t i = 0; i < digits; i++) {
    int digit = base64_digit(in[i]);
    if (digit < 0) return -1;
    bits = bits << 6 | (uint32_t)digit;
    if (i % 4 != 0) out[used++] = (char)(bits >> (6 - 2 * (i % 4)));
  }
  return used;
}

#endif
