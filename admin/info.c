/* info.c: what is known of one volume, for people and for programs. */
#include "request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static json_t *
text_or_null(const char *text)
{
    return text[0] ? cli_json_text(text) : json_null();
}

static json_t *
part_to_json(const struct lsvd_part_info *part)
{
    const char letter[2] = { part->letter, '\0' };
    json_t *object = cli_json_new();

    cli_json_set(object, "part", cli_json_text(letter));
    cli_json_set(object, "state",
                 cli_json_text(lsvd_part_state_text(part->state)));
    cli_json_set(object, "path", cli_json_text(part->root));
    cli_json_set(object, "instance", text_or_null(part->instance));
    cli_json_set(object, "problem", text_or_null(part->problem));
    return object;
}

/* "a, b" */
static json_t *
names_to_json(const char *names)
{
    json_t *array = cli_json_must(json_array());

    while (*names) {
        size_t length = strcspn(names, ",");
        char name[80];

        snprintf(name, sizeof name, "%.*s", (int)length, names);
        cli_json_append(array, cli_json_text(name));
        names += length;
        names += strspn(names, ", ");
    }
    return array;
}

json_t *
info_to_json(const struct lsvd_info *info)
{
    char redundancy[CLI_SIZE_BYTES];
    json_t *o = cli_json_new();
    json_t *parts = cli_json_must(json_array());
    json_t *history = cli_json_must(json_array());

    cli_json_set(o, "name", cli_json_text(info->name));
    cli_json_set(o, "number", cli_json_u64(info->number));
    cli_json_set(o, "uuid", cli_json_text(info->uuid));
    cli_json_set(o, "size", cli_json_u64(info->size_bytes));
    cli_json_set(o, "chunk_size", cli_json_u64(info->chunk_bytes));
    cli_json_set(o, "block_size", cli_json_u64(info->block_bytes));
    cli_json_set(o, "redundancy",
                 cli_json_text(cli_redundancy(info, redundancy)));
    cli_json_set(o, "replicas", cli_json_u64(info->replicas));
    cli_json_set(o, "ec_data", cli_json_u64(info->ec_data));
    cli_json_set(o, "ec_parity", cli_json_u64(info->ec_parity));
    cli_json_set(o, "read_only", json_boolean(info->read_only));
    cli_json_set(o, "append_only", json_boolean(info->append_only));
    cli_json_set(o, "in_use", json_boolean(info->in_use));
    cli_json_set(o, "owner", text_or_null(info->owner));
    cli_json_set(o, "clean", json_boolean(info->clean));
    cli_json_set(o, "accepted_loss", json_boolean(info->accepted_loss));
    for (uint32_t i = 0; i < info->forced_count; i++)
        cli_json_append(history, cli_json_text(info->forced[i]));
    cli_json_set(o, "history", history);
    cli_json_set(o, "parent", text_or_null(info->parent));
    cli_json_set(o, "parent_number",
                 info->parent_number ? cli_json_u64(info->parent_number)
                                     : json_null());
    if (info->parent_number)
        cli_json_set(o, "overlap", cli_json_u64(info->overlap_bytes));
    cli_json_set(o, "children", names_to_json(info->children));
    cli_json_set(o, "sources", names_to_json(info->sources));
    cli_json_set(o, "referenced", cli_json_u64(info->referenced_bytes));
    cli_json_set(o, "chunks_present", cli_json_u64(info->chunks_present));
    cli_json_set(o, "epoch", cli_json_u64(info->epoch));
    cli_json_set(o, "view_minor", cli_json_u64(info->view_minor));
    cli_json_set(o, "journal_size", cli_json_u64(info->journal_bytes));
    cli_json_set(o, "journal_used", cli_json_u64(info->journal_used_bytes));
    for (uint32_t i = 0; i < info->part_count; i++)
        cli_json_append(parts, part_to_json(&info->part[i]));
    cli_json_set(o, "parts", parts);
    return o;
}

static void
print_part(const struct lsvd_part_info *part)
{
    printf("part %c      %-10s ", part->letter,
           lsvd_part_state_text(part->state));
    cli_print_safe(part->root);
    if (part->problem[0]) {
        fputs("  (", stdout);
        cli_print_safe(part->problem);
        putchar(')');
    }
    putchar('\n');
}

static const char *
use_text(const struct lsvd_info *info)
{
    if (!info->in_use)
        return info->clean ? "no; closed cleanly"
                           : "no; the journal will be replayed at the "
                             "next start";
    return info->owner[0] ? info->owner : "yes";
}

void
info_print(const struct lsvd_info *info)
{
    char a[CLI_SIZE_BYTES], b[CLI_SIZE_BYTES];

    printf("volume      %s\n", info->name);
    printf("number      %" PRIu32 "\n", info->number);
    printf("uuid        %s\n", info->uuid);
    printf("size        %s (%" PRIu64 " bytes)\n",
           cli_size(info->size_bytes, a), info->size_bytes);
    printf("redundancy  %s\n", cli_redundancy(info, a));
    printf("layout      chunks of %s, blocks of %s\n",
           cli_size(info->chunk_bytes, a), cli_size(info->block_bytes, b));
    printf("mode        %s%s\n", info->read_only ? "read-only" : "read-write",
           info->append_only ? ", append-only" : "");
    fputs("in use      ", stdout);
    cli_print_safe(use_text(info));
    putchar('\n');
    if (info->parent_number) {
        fputs("parent      ", stdout);
        cli_print_safe(info->parent[0] ? info->parent : "not found");
        printf(" (number %" PRIu32 ", shows in the first %s)\n",
               info->parent_number, cli_size(info->overlap_bytes, a));
    }
    if (info->child_count > 0) {
        fputs("parent of   ", stdout);
        cli_print_safe(info->children);
        putchar('\n');
    }
    if (info->source_count > 0) {
        printf("references  %s in ", cli_size(info->referenced_bytes, a));
        cli_print_safe(info->sources);
        putchar('\n');
    }
    printf("chunks      %" PRIu64 " written\n", info->chunks_present);
    printf("journal     %s, %s used\n", cli_size(info->journal_bytes, a),
           cli_size(info->journal_used_bytes, b));
    printf("view        %" PRIu64 ".%" PRIu64 "\n", info->epoch,
           info->view_minor);
    if (info->accepted_loss)
        puts("loss        accepted, not verified: lsvd-repair verify --full");
    for (uint32_t i = 0; i < info->forced_count; i++) {
        fputs("history     loss accepted ", stdout);
        cli_print_safe(info->forced[i]);
        putchar('\n');
    }
    for (uint32_t i = 0; i < info->part_count; i++)
        print_part(&info->part[i]);
}
