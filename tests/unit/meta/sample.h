/* sample.h: a volume's metadata with every field filled. */
#ifndef LSVD_TESTS_META_SAMPLE_H
#define LSVD_TESTS_META_SAMPLE_H

#include "meta/label.h"
#include "meta/meta.h"
#include <stdio.h>
#include <string.h>

/* Any identity, other for every n. */
static inline struct uuid
sample_uuid(unsigned n)
{
    struct uuid uuid;

    for (size_t i = 0; i < sizeof uuid.b; i++)
        uuid.b[i] = (uint8_t)(n + i * 16 + 1);
    return uuid;
}

static inline struct view_id
sample_view_id(uint32_t epoch, uint32_t minor)
{
    struct view_id id = { .epoch = epoch, .minor = minor };

    id.start = sample_uuid(100 + epoch);
    return id;
}

/* The roots are borrowed by *ret, which is not to be given to meta_done. */
static inline void
sample_meta(uint32_t replicas, uint32_t ec_data, uint32_t ec_parity,
            char roots[PARTS_MAX][64], struct volume_meta *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->generation = 7;
    ret->compat = 5;
    (void)strcpy(ret->name, "mydevice1");
    ret->number = 11;
    ret->uuid = sample_uuid(1);
    ret->size_bytes = UINT64_C(10) << 30;
    ret->chunk_bytes = CHUNK_BYTES_DEFAULT;
    ret->block_bytes = BLOCK_BYTES_DEFAULT;
    ret->replicas = replicas;
    ret->ec_data = ec_data;
    ret->ec_parity = ec_parity;
    ret->journal_bytes = UINT64_C(1) << 30;
    ret->part_count = replicas > 0 ? replicas : ec_data + ec_parity;
    for (uint32_t i = 0; i < ret->part_count; i++) {
        ret->part[i].instance = sample_uuid(10 + i);
        (void)snprintf(roots[i], 64, "/mnt/disk %u", i);
        ret->part[i].root = roots[i];
    }
}

static inline void
sample_label(struct label *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->ro_compat = 1;
    ret->compat = 2;
    ret->volume = sample_uuid(1);
    ret->instance = sample_uuid(12);
    ret->geometry = UINT64_C(0x1122334455667788);
    ret->slot = 2;
    ret->state = LABEL_LIVE;
    ret->clean = true;
    ret->write_count = 4;
    ret->promised = 9;
    ret->ckpt = UINT64_C(0x0000800000000123);
    ret->table_generation = 77;
    ret->written_at = 1700000000;
    (void)strcpy(ret->host, "host.example");
    ret->view.members = 0x1b;
    ret->view.complete_members = 0x1f;
    ret->view.journal = sample_uuid(50);
    for (uint32_t i = 1; i <= 5; i++) {
        struct view_id id = sample_view_id(i, i % 2);

        view_advance(&ret->view, &id);
    }
    for (unsigned i = 0; i < 5; i++)
        if (ret->view.members & 1u << i)
            ret->view.instance[i] = sample_uuid(10 + i);
    ret->view.absent[2].instance = sample_uuid(12);
    ret->view.absent[2].dropped_by = sample_view_id(4, 0);
    ret->view.absent[2].ckpt = 99;
}

#endif
