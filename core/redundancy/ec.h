/* ec.h: systematic Reed-Solomon code over GF(2^8); the only user of ISA-L.
 *
 * Cauchy matrix (gf_gen_cauchy1_matrix): every K of the K+M rows can be
 * inverted; each inversion is checked all the same. Tables are made for this
 * process and CPU and never stored. Immutable after ec_new: any thread. */
#ifndef LSVD_REDUNDANCY_EC_H
#define LSVD_REDUNDANCY_EC_H

#include <stddef.h>
#include <stdint.h>

struct ec;

/* k 2 … 16, m 1 … 4 (assert). Runs the self-test of this k, m on this CPU:
 * encode, erase, decode, compared with a plain table implementation; -EIO
 * with a text if they differ. */
int ec_new(uint32_t k, uint32_t m, struct ec **ret);
void ec_free(struct ec *ec); /* NULL is fine */

/* parity[0 … m-1] from data[0 … k-1], each `bytes` long (> 0, any multiple of
 * 64 is fastest). Buffers do not overlap. */
void ec_encode(const struct ec *ec, size_t bytes, const uint8_t *const *data,
               uint8_t *const *parity);

/* Rebuild cells. cells[0 … k+m-1]: pointers to `bytes` each; `have`: bit i =
 * cells[i] is valid input; `want`: bit i = compute cells[i] (buffer given).
 * have and want are disjoint. Uses the first k of have. -EIO if have has
 * fewer than k bits or the matrix can't be inverted. cells not in have or
 * want may be NULL. */
int ec_decode(const struct ec *ec, size_t bytes, uint32_t have, uint32_t want,
              uint8_t *const *cells);

#endif
