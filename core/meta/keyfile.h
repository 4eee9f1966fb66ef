/* keyfile.h: what .meta and .volumesmeta have in common: a GLib key file that
 * ends with its own checksum. Inside meta/ only.
 *
 * (K1) The last line is "checksum = <16 hex digits>\n": XXH3-64 of every byte
 *      before that line. A file with anything behind it is damaged.
 * (K2) Nothing is parsed before the checksum was found right.
 * Readers return 0, or -EBADMSG with a text naming section and key. */
#ifndef LSVD_META_KEYFILE_H
#define LSVD_META_KEYFILE_H

#include "base/uuid.h"
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Check and parse. max_lines bounds what GLib allocates for a hostile file.
 * *ret is freed with g_key_file_free. */
int keyfile_parse(const uint8_t *bytes, size_t count, size_t max_lines,
                  GKeyFile **ret);

/* Format number and feature masks of a section. -EPROTO: of the future. */
int keyfile_features(GKeyFile *file, const char *group,
                     uint64_t incompat_known, uint64_t *ret_incompat,
                     uint64_t *ret_ro_compat, uint64_t *ret_compat);

int keyfile_u64(GKeyFile *file, const char *group, const char *key,
                uint64_t min, uint64_t max, uint64_t *ret);
int keyfile_u32(GKeyFile *file, const char *group, const char *key,
                uint32_t min, uint32_t max, uint32_t *ret);
int keyfile_bool(GKeyFile *file, const char *group, const char *key,
                 bool *ret);
int keyfile_uuid(GKeyFile *file, const char *group, const char *key,
                 struct uuid *ret);
/* Valid UTF-8, unescaped; freed with g_free. */
int keyfile_text(GKeyFile *file, const char *group, const char *key,
                 char **ret);

/* "key = value" lines for a file in the making. */
void keyfile_put_u64(GString *out, const char *key, uint64_t value);
void keyfile_put_bool(GString *out, const char *key, bool value);
void keyfile_put_uuid(GString *out, const char *key, const struct uuid *uuid);
/* Escaped as keyfile_text expects it. */
void keyfile_put_text(GString *out, const char *key, const char *value);
void keyfile_put_features(GString *out, uint64_t incompat,
                          uint64_t ro_compat, uint64_t compat);

/* Append the last section and the checksum line (K1); *ret is malloc'ed. */
int keyfile_seal(GString *out, const char *end_group, size_t max_bytes,
                 char **ret, size_t *ret_bytes);

/* A copy of text that is safe to print: printable ASCII, the rest as '?', cut
 * to fit. */
#define KEYFILE_SAFE_BYTES 80
void keyfile_safe(const char *text, char *to);

#endif
