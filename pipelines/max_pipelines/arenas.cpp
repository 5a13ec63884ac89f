// Where Python's small objects lie: arenas from huge pages. Python takes each arena of 1 MiB by an mmap of its own, which
// is half a huge page and never aligned to one; here they are cut from aligned spans.
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr size_t HUGE = size_t{2} << 20;
constexpr size_t SPAN = 8 * HUGE;  // of address space; memory is used as it is touched

uint8_t *next = nullptr, *end = nullptr;  // what is left of the last span; the GIL guards both

bool begin_span() {
    void* mapped = mmap(nullptr, SPAN + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return false;
    auto* first = static_cast<uint8_t*>(mapped);
    const size_t ahead = (HUGE - reinterpret_cast<uintptr_t>(first) % HUGE) % HUGE;
    if (ahead > 0) munmap(first, ahead);
    if (ahead < HUGE) munmap(first + ahead + SPAN, HUGE - ahead);
    next = first + ahead;
    end = next + SPAN;
    madvise(next, SPAN, MADV_HUGEPAGE);  // refused: the pages are small, as without us
    return true;
}

}  // namespace

extern "C" const uint32_t source_digest = SOURCE_DIGEST;  // by which Python knows that it was made from this file

// `PyObjectArenaAllocator.alloc`.
extern "C" void* take(void*, size_t size) {
    if (size > SPAN) return nullptr;
    if (static_cast<size_t>(end - next) < size) {
        if (next < end) munmap(next, end - next);
        next = end = nullptr;
        if (!begin_span()) return nullptr;
    }
    next += size;
    return next - size;
}

// `PyObjectArenaAllocator.free`, also of an arena that Python itself had mapped.
extern "C" void give(void*, void* arena, size_t size) { munmap(arena, size); }
