/* unit.h: cmocka with what it needs to be included first. */
#ifndef LSVD_TESTS_UNIT_H
#define LSVD_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it uses their types. */
#include <cmocka.h>

/* Turns of a test that has many. With a sanitizer each takes up to ten times as
 * long, and it looks for other faults. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
#define FEWER(n) (((n) + 3) / 4)
#else
#define FEWER(n) (n)
#endif

#endif
