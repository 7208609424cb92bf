// Work memory that is kept between passes: fresh pages cost more than the work done in them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace cocogs {

// An uninitialised array from the common store, given back when it is destroyed. Memory comes in
// cache lines; a few elements beyond the end may be read. Throws std::bad_alloc.
class RawBuffer {
 public:
  RawBuffer() = default;
  explicit RawBuffer(size_t bytes);
  ~RawBuffer();
  RawBuffer(RawBuffer&& other) noexcept { swap(other); }
  RawBuffer& operator=(RawBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void* data() const { return data_; }

 private:
  void swap(RawBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
  }
  void* data_ = nullptr;
  size_t capacity_ = 0;
};

template <class T>
class Buffer : public RawBuffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : RawBuffer(count * sizeof(T)) {}
  T* data() const { return static_cast<T*>(RawBuffer::data()); }
};

// Each pass calls this first. It frees the blocks of the store that the last kPassesKept passes did not use,
// so that the store never holds more than those passes needed.
constexpr int64_t kPassesKept = 8;
void begin_pass();

// Bytes in the store now.
size_t kept_memory();

// Gives to the system what is in the store, and the memory of the process that is free.
void release_memory();

// Tells the C library to keep freed memory. Large blocks that are freed and asked for again would each time
// come back as fresh pages. `release_memory` gives back what is kept so.
void keep_freed_memory();

// Bytes that this process can still take: by the system's free memory, the limits of its control group and its
// own limit on address space. INT64_MAX where the system does not tell. Takes a tenth of a millisecond.
int64_t available_memory();

}  // namespace cocogs
