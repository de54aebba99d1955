/* Counts the bytes that this process copies in memory in pieces of at least 1 KiB: preloaded, it stands in for the C library's
   memcpy and its kin, which Python, numpy, gRPC, protobuf, Rust and ONNX Runtime all call by name. What the kernel copies to and
   from sockets is not in it. */

#include <stddef.h>

static unsigned long long copied;

__attribute__((visibility("default"))) unsigned long long count_copies_bytes(void) {
    return __atomic_load_n(&copied, __ATOMIC_SEQ_CST);
}

static void *move(void *to, const void *from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    if (size >= 1024)
        __atomic_add_fetch(&copied, size, __ATOMIC_SEQ_CST);
    if (t <= f || t >= f + size) {
        for (; size >= sizeof(unsigned long); size -= sizeof(unsigned long), t += sizeof(unsigned long), f += sizeof(unsigned long)) {
            unsigned long word;
            __builtin_memcpy(&word, f, sizeof word); /* one load and one store */
            __builtin_memcpy(t, &word, sizeof word);
        }
        for (; size; size--)
            *t++ = *f++;
    } else {
        while (size--)
            t[size] = f[size];
    }
    return to;
}

__attribute__((visibility("default"))) void *memcpy(void *to, const void *from, size_t size) { return move(to, from, size); }
__attribute__((visibility("default"))) void *memmove(void *to, const void *from, size_t size) { return move(to, from, size); }
__attribute__((visibility("default"))) void *mempcpy(void *to, const void *from, size_t size) { return (char *)move(to, from, size) + size; }
__attribute__((visibility("default"))) void *__memcpy_chk(void *to, const void *from, size_t size, size_t room) { (void)room; return move(to, from, size); }
__attribute__((visibility("default"))) void *__memmove_chk(void *to, const void *from, size_t size, size_t room) { (void)room; return move(to, from, size); }
__attribute__((visibility("default"))) void *__mempcpy_chk(void *to, const void *from, size_t size, size_t room) { (void)room; return (char *)move(to, from, size) + size; }
