/* Preloaded into a program that is linked with libc: its wall clock is an hour slow. The kernel's own cannot be shifted for one
   process (time namespaces have no CLOCK_REALTIME). */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec -= 3600;
    return (int)result;
}
