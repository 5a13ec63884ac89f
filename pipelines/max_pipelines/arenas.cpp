// Where Python's small objects lie: arenas from huge pages. Python maps each arena of 1 MiB by itself, which is half a
// huge page and never aligned to one; here they are cut from aligned spans.
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

namespace {

constexpr size_t ARENA = size_t{1} << 20, PAGE = 2 * ARENA, SPAN = 8 * PAGE;

struct Spare {  // lies in the arena that it tells of
    Spare* after;
};

uint8_t *next = nullptr, *end = nullptr;  // what is left of the last span
Spare* spares = nullptr;                  // given back, each while the other half of its page is used
std::mutex guard;                         // the GIL is one, but for interpreters that have one each

void* mapped(size_t size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

bool begin_span() {
    auto* first = static_cast<uint8_t*>(mapped(SPAN + PAGE));
    if (first == nullptr) return false;
    const size_t ahead = (PAGE - reinterpret_cast<uintptr_t>(first) % PAGE) % PAGE;
    if (ahead > 0) munmap(first, ahead);
    if (ahead < PAGE) munmap(first + ahead + SPAN, PAGE - ahead);
    next = first + ahead;
    end = next + SPAN;
    madvise(next, SPAN, MADV_HUGEPAGE);  // refused: the pages are small, as without us
    return true;
}

// Take an arena off the list of spares, if it is there.
bool reclaim(uintptr_t arena) {
    for (Spare** link = &spares; *link != nullptr; link = &(*link)->after)
        if (reinterpret_cast<uintptr_t>(*link) == arena) {
            *link = (*link)->after;
            return true;
        }
    return false;
}

}  // namespace

extern "C" const uint32_t source_digest = SOURCE_DIGEST;  // by which Python knows that it was made from this file

// `PyObjectArenaAllocator.alloc`. Python takes pieces of other sizes here, too, as stacks of its threads.
extern "C" void* take(void*, size_t size) {
    if (size != ARENA) return mapped(size);
    const std::lock_guard<std::mutex> locked(guard);
    if (spares != nullptr) {
        Spare* spare = spares;
        spares = spare->after;
        return spare;
    }
    if (next == end && !begin_span()) return nullptr;
    next += ARENA;
    return next - ARENA;
}

// `PyObjectArenaAllocator.free`, also of an arena that Python itself had mapped. Half a page would not be free for others.
extern "C" void give(void*, void* memory, size_t size) {
    const auto arena = reinterpret_cast<uintptr_t>(memory);
    if (size != ARENA || arena % ARENA != 0) {
        munmap(memory, size);
        return;
    }
    const std::lock_guard<std::mutex> locked(guard);
    if (reclaim(arena ^ ARENA))
        munmap(reinterpret_cast<void*>(arena & ~uintptr_t{ARENA}), PAGE);
    else
        spares = new (memory) Spare{spares};
}
