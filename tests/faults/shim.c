/* Makes the calls on the files under one directory fail, end the process, or take their time; and the clock jump.
 *
 * Loaded by LD_PRELOAD; FAULTS names a file that holds `struct control`, which another process may change at any time
 * (tests/faults/shim.py). FLUSH_DELAY_MS and FAULTS_UNDER do without such a file, for a slow disk alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum mode { OFF, COUNT, FAIL, SHORT, KILL };

struct control {
    int64_t mode;
    int64_t error; /* errno of FAIL */
    int64_t first; /* the calls from this one to that one, counted from 1 */
    int64_t last;
    int64_t count; /* calls met so far */
    int64_t delay_us; /* of each flush */
    int64_t jump_s; /* of the wall clock */
    char under[256];
};

static struct control own;
static struct control *control = &own;

static void copy_name(char *to, const char *from) { snprintf(to, sizeof own.under, "%s", from); }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS"), *under = getenv("FAULTS_UNDER"), *delay = getenv("FLUSH_DELAY_MS");
    if (path) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        void *found = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (found == MAP_FAILED) {
            perror("FAULTS");
            abort();
        }
        control = found;
        close(fd);
        return;
    }
    copy_name(own.under, under ? under : "/");
    own.delay_us = delay ? (int64_t)(1000 * atof(delay)) : 0;
}

static int is_under(const char *path) { return strncmp(path, control->under, strlen(control->under)) == 0; }

static int concerns(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return is_under(path);
}

/* Give the mode that holds for this call, OFF where nothing is to happen to it. */
static int64_t meet(void) {
    if (control->mode == OFF) return OFF;
    int64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (control->mode == COUNT || number < control->first || number > control->last) return OFF;
    if (control->mode == KILL) kill(getpid(), SIGKILL);
    if (control->mode == FAIL) errno = (int)control->error;
    return control->mode;
}

static void wait_for_disk(void) {
    struct timespec delay = {control->delay_us / 1000000, control->delay_us % 1000000 * 1000};
    while (nanosleep(&delay, &delay) == -1 && errno == EINTR) continue;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define WRITING(name, type, ...) \
    REAL(name); \
    int64_t mode = control->mode != OFF && concerns(fd) ? meet() : OFF; \
    if (mode == FAIL) return -1; \
    if (mode == SHORT && size > 1) size /= 2; \
    return real(__VA_ARGS__)

ssize_t write(int fd, const void *data, size_t size) { WRITING(write, ssize_t, fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { WRITING(pwrite, ssize_t, fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { WRITING(pwrite64, ssize_t, fd, data, size, at); }

#define FLUSHING(name) \
    int name(int fd) { \
        REAL(name); \
        if ((control->mode != OFF || control->delay_us) && concerns(fd)) { \
            if (control->delay_us) wait_for_disk(); \
            if (meet() == FAIL) return -1; \
        } \
        return real(fd); \
    }

FLUSHING(fsync)
FLUSHING(fdatasync)

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    return control->mode != OFF && concerns(fd) && meet() == FAIL ? -1 : real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    return control->mode != OFF && concerns(fd) && meet() == FAIL ? -1 : real(fd, size);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int status = real(clock, now);
    if (status == 0 && clock == CLOCK_REALTIME) now->tv_sec += control->jump_s;
    return status;
}

int unlink(const char *path) {
    REAL(unlink);
    return control->mode != OFF && is_under(path) && meet() == FAIL ? -1 : real(path);
}
