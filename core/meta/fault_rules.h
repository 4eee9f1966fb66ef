/* fault_rules.h: the rules of target/fault.h from a file, which is looked at
 * again while it is in use (at most every 50 ms, by who makes a call).
 *
 * It is a key file with a section for each rule, judged in their order:
 *
 *   [one-bad-disk]
 *   path=root-b           part of directory/object, or a pattern (* ? [) for
 *                         all of it or its end; default: everything
 *   call=write;sync       open read write sync punch allocate resize list
 *                         remove rename stat lock dir any; default: any
 *   after=10              so many matching calls pass first
 *   count=3               then so many are hit; default: all
 *   probability=0.5       each with this probability
 *   seed=7                which these are, and what is flipped
 *   delay-ms=200          wait first
 *   error=EIO             then fail: the name of an errno
 *
 * Instead of error= there may be one of hang=yes (until the rule is gone from
 * the file), short=yes, lie=yes, flip=yes, drop=yes, misdirect=yes: enum
 * fault_kind says what they are, and for which calls. A rule has one of
 * these, or delay-ms, or both.
 *
 * No file, or an empty one: no faults. A file that is not right is logged
 * once, and the former rules hold on. Rules that are unchanged go on counting.
 * Replace the file by renaming: what is half written is half read. */
#ifndef LSVD_META_FAULT_RULES_H
#define LSVD_META_FAULT_RULES_H

#include "base/io.h"
#include "base/log.h"
#include "target/fault.h"
#include <stddef.h>

#define FAULT_RULES_BYTES_MAX 65536

/* Parse a file's text to rules, of which there is room for FAULT_RULES_MAX.
 * -EINVAL with a text that names section and key. */
int fault_rules_parse(const char *text, size_t bytes,
                      struct fault_rule *ret_rules, size_t *ret_count);

/* inner is borrowed, path and log are copied. -EINVAL: the file is there and
 * not right. Freed with fault_free. */
int fault_rules_new(struct io *inner, const char *path,
                    const struct logger *log, struct io **ret);

#endif
