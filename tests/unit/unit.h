/* unit.h: cmocka with what it needs to be included first. */
#ifndef LSVD_TESTS_UNIT_H
#define LSVD_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it uses their types. */
#include <cmocka.h>

#endif
