#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace cocogs {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kSlack = 1024;    // readable beyond the end
constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kKept = 64;       // blocks in the store

struct Block {
  void* data;
  size_t capacity;
};

struct Store {
  std::mutex mutex;
  std::vector<Block> blocks;  // oldest first
};
// Never destroyed: buffers may outlive static destructors.
Store& store() {
  static Store* const store = new Store;
  return *store;
}

}  // namespace

RawBuffer::RawBuffer(size_t bytes) {
  Store& s = store();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    // The smallest block that is large enough, but not wastefully large.
    size_t best = s.blocks.size();
    for (size_t i = 0; i < s.blocks.size(); ++i) {
      const size_t capacity = s.blocks[i].capacity;
      if (capacity >= bytes && capacity / 4 <= bytes + 65536 &&
          (best == s.blocks.size() || capacity < s.blocks[best].capacity))
        best = i;
    }
    if (best < s.blocks.size()) {
      data_ = s.blocks[best].data;
      capacity_ = s.blocks[best].capacity;
      s.blocks.erase(s.blocks.begin() + long(best));
      return;
    }
  }
  capacity_ = bytes + bytes / 4;  // counts of intersections change a little from view to view
  // Slots are written all over the place: with small pages, looking up addresses takes a sixth of that.
  const bool huge = capacity_ >= 2 * kHugePage;
  const size_t unit = huge ? kHugePage : kLine, size = (capacity_ + kSlack + unit - 1) / unit * unit;
  data_ = std::aligned_alloc(unit, size);
  if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (huge) madvise(data_, size, MADV_HUGEPAGE);
#endif
}

RawBuffer::~RawBuffer() {
  if (!data_) return;
  Store& s = store();
  std::lock_guard<std::mutex> lock(s.mutex);
  s.blocks.push_back({data_, capacity_});
  if (s.blocks.size() > kKept) {
    std::free(s.blocks.front().data);
    s.blocks.erase(s.blocks.begin());
  }
}

void release_memory() {
  Store& s = store();
  std::lock_guard<std::mutex> lock(s.mutex);
  for (const Block& block : s.blocks) std::free(block.data);
  s.blocks.clear();
}

}  // namespace cocogs
