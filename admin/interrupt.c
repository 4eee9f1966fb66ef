/* interrupt.c: see interrupt.h. */
#include "interrupt.h"

#include <signal.h>
#include <stddef.h>

/* A signal handler can reach nothing else. */
static volatile sig_atomic_t was_interrupted;

static void
on_signal(int number)
{
    (void)number;
    was_interrupted = 1;
}

void
interrupt_catch(void)
{
    struct sigaction action = {
        .sa_handler = on_signal,
        .sa_flags = (int)(SA_RESTART | (unsigned)SA_RESETHAND),
    };
    sigset_t both;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* Whoever started us may have them blocked. */
    sigemptyset(&both);
    sigaddset(&both, SIGINT);
    sigaddset(&both, SIGTERM);
    sigprocmask(SIG_UNBLOCK, &both, NULL);
}

bool
interrupted(void)
{
    return was_interrupted != 0;
}
