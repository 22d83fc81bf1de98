// A disk that a test can cut off, let fail, or let lie, put under the broker by LD_PRELOAD.
//
// Calls that change files below $SHIM_ROOT are carried out, and written down in the file $SHIM_JOURNAL, from which
// disk.py works out what a disk could hold after a power cut. The journal survives the process, because the kernel
// doesn't die with it. The file $SHIM_CONTROL is shared memory: one rule that lets a call fail or kills the process at
// it, counted from when the rule was given. With $SHIM_IGNORE_FSYNC=1 fdatasync answers "done" and does nothing for the journal:
// that is what a program gets that trusts sync_file_range.
//
// Knows no file format, and nothing of the broker. System calls are made directly, so nothing here depends on the
// order in which libraries are loaded.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE, SYNC, RANGE, NAMES, ANY };
enum action { NOTHING, FAIL, KILL };
enum record { OPENED = 1, WRITTEN, CUT, SYNC_BEGUN, SYNC_DONE, SYNC_FAILED, RENAMED, UNLINKED, MADE_DIR };
enum { CREATED = 1, DIRECTORY = 2, APPENDS = 4 };

// shim.py has the same layout.
struct control {
    uint64_t kind, from, until, action, error;
    // The failing write leaves its first half behind.
    uint64_t torn;
    // Calls that were of the rule's kind since it was given, and those that it was carried out on.
    uint64_t seen, fired;
};

// disk.py has the same layout.
struct header {
    uint32_t record, handle;
    uint64_t offset, length;
};

#define FDS_MAX 65536
// How long a sync takes, as on a good disk.
#define SYNC_US 300
// Which handle an fd is, 0 for files that are none of ours.
static uint32_t handle_of[FDS_MAX];
static uint8_t flags_of[FDS_MAX];
static char *path_of[FDS_MAX];
static uint32_t handles;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int journal = -1;
static struct control *control;
static int ignores_fdatasync;

static void give_up(const char *what) {
    fprintf(stderr, "shim: %s: %s\n", what, strerror(errno));
    _exit(99);
}

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("SHIM_ROOT"), *journal_path = getenv("SHIM_JOURNAL"), *shared = getenv("SHIM_CONTROL");
    if (!place || !journal_path || !shared) return;
    snprintf(root, sizeof root, "%s", place);
    root_length = strlen(root);
    const char *ignore = getenv("SHIM_IGNORE_FSYNC");
    ignores_fdatasync = ignore && strcmp(ignore, "1") == 0;
    int fd = syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) give_up(shared);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) give_up(shared);
    syscall(SYS_close, fd);
    journal = syscall(SYS_openat, AT_FDCWD, journal_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) give_up(journal_path);
}

static int is_ours(const char *path) {
    return journal >= 0 && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == 0);
}

static int is_tracked(int fd) {
    return fd >= 0 && fd < FDS_MAX && handle_of[fd] != 0;
}

static void note(enum record record, uint32_t handle, uint64_t offset, const void *data, uint64_t length) {
    struct header header = {record, handle, offset, length};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)data, length}};
    if (syscall(SYS_writev, journal, parts, data ? 2 : 1) < 0) give_up("the journal can't be written");
}

// Carries out the rule if a call is meant by it: the errno with which the call is to fail, or 0.
static int judge(enum kind kind) {
    if (__atomic_load_n(&control->action, __ATOMIC_SEQ_CST) == NOTHING) return 0;
    if (control->kind != ANY && control->kind != kind) return 0;
    uint64_t count = __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (count < control->from || count >= control->until) return 0;
    __atomic_add_fetch(&control->fired, 1, __ATOMIC_SEQ_CST);
    if (control->action == KILL) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    return (int)control->error;
}

static int failing(int error) {
    errno = error;
    return -1;
}

// The absolute path of a name below a directory that was opened before.
static const char *absolute(int dir, const char *name, char *buffer) {
    if (name[0] == '/' || dir == AT_FDCWD || !is_tracked(dir)) return name;
    snprintf(buffer, PATH_MAX, "%s/%s", path_of[dir], name);
    return buffer;
}

static void track(int fd, const char *path, int flags, int existed) {
    if (fd < 0 || fd >= FDS_MAX) return;
    struct stat stat;
    if (fstat(fd, &stat) != 0) return;
    int directory = S_ISDIR(stat.st_mode);
    handle_of[fd] = ++handles;
    flags_of[fd] = (directory ? DIRECTORY : 0) | (flags & O_APPEND ? APPENDS : 0);
    free(path_of[fd]);
    path_of[fd] = strdup(path);
    uint64_t how = (existed ? 0 : CREATED) | (directory ? DIRECTORY : 0);
    note(OPENED, handle_of[fd], how, path, strlen(path));
    if (existed && flags & O_TRUNC) note(CUT, handle_of[fd], 0, NULL, 0);
}

static int open_any(int dir, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = absolute(dir, name, buffer);
    if (!is_ours(path)) return syscall(SYS_openat, dir, name, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    int changes = (flags & O_CREAT && !existed) || flags & O_TRUNC;
    int error = changes ? judge(NAMES) : 0;
    int fd = error ? failing(error) : syscall(SYS_openat, dir, name, flags, mode);
    int saved = errno;
    if (fd >= 0) track(fd, path, flags, existed);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_any(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return open_any(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    if (is_tracked(fd)) handle_of[fd] = 0;
    return syscall(SYS_close, fd);
}

int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    long argument = va_arg(rest, long);
    va_end(rest);
    int result = syscall(SYS_fcntl, fd, command, argument);
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && is_tracked(fd) && result >= 0 && result < FDS_MAX) {
        handle_of[result] = handle_of[fd];
        flags_of[result] = flags_of[fd];
        free(path_of[result]);
        path_of[result] = strdup(path_of[fd]);
    }
    return result;
}
int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    long argument = va_arg(rest, long);
    va_end(rest);
    return fcntl(fd, command, argument);
}

// The one way in which bytes are written. The journal comes first: what it doesn't have can't be acknowledged.
static ssize_t write_at(int fd, const void *data, size_t length, off_t offset, int moves) {
    pthread_mutex_lock(&lock);
    if (moves) offset = lseek(fd, 0, flags_of[fd] & APPENDS ? SEEK_END : SEEK_CUR);
    // A write during which the process is killed may be on the disk; one that fails may be there in part.
    int kills = control->action == KILL;
    if (kills) note(WRITTEN, handle_of[fd], offset, data, length);
    int error = judge(WRITE);
    size_t done = error ? (control->torn ? length / 2 : 0) : length;
    if (!kills && done > 0) note(WRITTEN, handle_of[fd], offset, data, done);
    ssize_t result = done == 0 ? 0
                   : moves    ? syscall(SYS_write, fd, data, done)
                              : syscall(SYS_pwrite64, fd, data, done, offset);
    pthread_mutex_unlock(&lock);
    return error ? failing(error) : result;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    if (!is_tracked(fd)) return syscall(SYS_pwrite64, fd, data, length, offset);
    return write_at(fd, data, length, offset, 0);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    if (!is_tracked(fd)) return syscall(SYS_write, fd, data, length);
    return write_at(fd, data, length, 0, 1);
}

// Short writes are allowed, and programs must go on after them: so one part is enough.
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_tracked(fd)) return syscall(SYS_writev, fd, parts, count);
    return count > 0 ? write_at(fd, parts[0].iov_base, parts[0].iov_len, 0, 1) : 0;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    if (!is_tracked(fd)) return syscall(SYS_pwritev, fd, parts, count, offset, 0);
    return count > 0 ? write_at(fd, parts[0].iov_base, parts[0].iov_len, offset, 0) : 0;
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev(fd, parts, count, offset);
}

// Copies inside the kernel can't be seen. Programs fall back to read and write.
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned flags) {
    if (is_tracked(out)) return failing(EXDEV);
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, length, flags);
}
ssize_t sendfile64(int out, int in, off_t *offset, size_t count) {
    if (is_tracked(out)) return failing(EINVAL);
    return syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) { return sendfile64(out, in, offset, count); }
int fallocate64(int fd, int mode, off_t offset, off_t length) {
    if (is_tracked(fd)) return failing(EOPNOTSUPP);
    return syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

int ftruncate64(int fd, off_t size) {
    if (!is_tracked(fd)) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int error = judge(WRITE);
    if (!error) note(CUT, handle_of[fd], size, NULL, 0);
    int result = error ? failing(error) : syscall(SYS_ftruncate, fd, size);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_any(int fd, long call) {
    if (!is_tracked(fd)) return syscall(call, fd);
    static uint64_t syncs;
    uint32_t handle = handle_of[fd];
    int notes = !(ignores_fdatasync && call == SYS_fdatasync);
    // What is written while a sync runs may or may not be in it; only what was there at its beginning surely is.
    pthread_mutex_lock(&lock);
    uint64_t number = ++syncs;
    int error = judge(SYNC);
    if (notes) note(SYNC_BEGUN, handle, number, NULL, 0);
    pthread_mutex_unlock(&lock);
    // Instead of the kernel's own sync: the journal alone says what is durable, and a disk as fast as memory would
    // have no groups to commit.
    usleep(SYNC_US);
    if (notes) {
        pthread_mutex_lock(&lock);
        note(error ? SYNC_FAILED : SYNC_DONE, handle, number, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return error ? failing(error) : 0;
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }
// It promises nothing about a power cut (its manual page says so), so the journal doesn't hear of it.
int sync_file_range(int fd, off_t offset, off_t length, unsigned flags) {
    if (!is_tracked(fd)) return syscall(SYS_sync_file_range, fd, offset, length, flags);
    int error = judge(RANGE);
    return error ? failing(error) : 0;
}

static int change_name(enum record record, const char *noted, size_t length, long result) {
    if (result == 0) note(record, 0, 0, noted, length);
    return (int)result;
}

int rename(const char *from, const char *to) {
    if (!is_ours(from) && !is_ours(to)) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    char both[2 * PATH_MAX];
    int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
    pthread_mutex_lock(&lock);
    int error = judge(NAMES);
    int result = error ? failing(error)
                       : change_name(RENAMED, both, length, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
    pthread_mutex_unlock(&lock);
    return result;
}

int unlinkat(int dir, const char *name, int flags) {
    char buffer[PATH_MAX];
    const char *path = absolute(dir, name, buffer);
    if (!is_ours(path)) return syscall(SYS_unlinkat, dir, name, flags);
    pthread_mutex_lock(&lock);
    int error = judge(NAMES);
    int result = error ? failing(error)
                       : change_name(UNLINKED, path, strlen(path), syscall(SYS_unlinkat, dir, name, flags));
    pthread_mutex_unlock(&lock);
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdir(const char *path, mode_t mode) {
    if (!is_ours(path)) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&lock);
    int error = judge(NAMES);
    int result = error ? failing(error)
                       : change_name(MADE_DIR, path, strlen(path), syscall(SYS_mkdirat, AT_FDCWD, path, mode));
    pthread_mutex_unlock(&lock);
    return result;
}
