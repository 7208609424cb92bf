#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <fstream>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "system.h"

namespace cocogs {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kSlack = 1024;    // readable beyond the end
constexpr size_t kHugePage = size_t(2) << 20;

struct Block {
  void* data;
  size_t capacity;
  int64_t last_pass;  // that used it
};

struct Store {
  std::mutex mutex;
  std::vector<Block> blocks;  // in the order in which they were given back
  int64_t pass = 0;           // number of the last pass that began

  // Frees the blocks that no pass used since the one of this number.
  void free_older_than(int64_t first_kept) {
    const auto kept = std::stable_partition(blocks.begin(), blocks.end(),
                                            [&](const Block& block) { return block.last_pass >= first_kept; });
    for (auto block = kept; block != blocks.end(); ++block) free_aligned(block->data);
    blocks.erase(kept, blocks.end());
  }
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
    // The smallest block that is large enough, but not wastefully large. Of equals the one given back last, so
    // that a surplus of blocks grows old.
    size_t best = s.blocks.size();
    for (size_t i = 0; i < s.blocks.size(); ++i) {
      const size_t capacity = s.blocks[i].capacity;
      if (capacity >= bytes && capacity / 4 <= bytes + 65536 &&
          (best == s.blocks.size() || capacity <= s.blocks[best].capacity))
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
  data_ = aligned_memory(unit, size);
  if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (huge) madvise(data_, size, MADV_HUGEPAGE);
#endif
}

RawBuffer::~RawBuffer() {
  if (!data_) return;
  Store& s = store();
  std::lock_guard<std::mutex> lock(s.mutex);
  s.blocks.push_back({data_, capacity_, s.pass});
}

void begin_pass() {
  Store& s = store();
  std::lock_guard<std::mutex> lock(s.mutex);
  s.free_older_than(++s.pass - kPassesKept);
}

size_t kept_memory() {
  Store& s = store();
  std::lock_guard<std::mutex> lock(s.mutex);
  size_t bytes = 0;
  for (const Block& block : s.blocks) bytes += block.capacity;
  return bytes;
}

void release_memory() {
  Store& s = store();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.free_older_than(INT64_MAX);
  }
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

void keep_freed_memory() {
#if defined(__GLIBC__)
  if (!mallopt(M_MMAP_THRESHOLD, 1 << 30)) mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

#if defined(__linux__)
namespace {

// The number that stands in a file after `name` (or at its beginning); `otherwise` where there is none.
int64_t number_in(const char* path, const std::string& name, int64_t otherwise) {
  std::ifstream file(path);
  std::string word;
  if (name.empty() || [&] {
        while (file >> word)
          if (word == name) return true;
        return false;
      }()) {
    int64_t number;
    if (file >> number) return number;
  }
  return otherwise;
}

// What a control group leaves of its limit. The cache of files that nobody reads counts as free.
int64_t left_in_group(const std::string& folder, const char* limit, const char* used, const char* cache) {
  const int64_t most = number_in((folder + limit).c_str(), "", INT64_MAX);
  const int64_t taken = number_in((folder + used).c_str(), "", 0);
  return most == INT64_MAX ? most : most - taken + number_in((folder + "memory.stat").c_str(), cache, 0);
}

int64_t left_of_address_space() {
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return INT64_MAX;
  return int64_t(limit.rlim_cur) - number_in("/proc/self/statm", "", 0) * sysconf(_SC_PAGESIZE);
}

}  // namespace

int64_t available_memory() {
  const int64_t free_kib = number_in("/proc/meminfo", "MemAvailable:", INT64_MAX / 1024);
  const int64_t left = std::min(
      {free_kib * 1024, left_of_address_space(),
       left_in_group("/sys/fs/cgroup/", "memory.max", "memory.current", "inactive_file"),
       left_in_group("/sys/fs/cgroup/memory/", "memory.limit_in_bytes", "memory.usage_in_bytes",
                     "total_inactive_file")});
  return std::max<int64_t>(left, 0);
}
#else
int64_t available_memory() { return INT64_MAX; }
#endif

}  // namespace cocogs
