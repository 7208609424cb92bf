// Work memory that is kept between calls: fresh pages cost more than the work done in them.
#pragma once
#include <cstddef>
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

// Frees what is in the store now.
void release_memory();

}  // namespace cocogs
