import Glibc

/// Why a near cache could not be made.
public enum NearCacheError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Fewer than `least` bytes were asked for.
  case tooSmall(bytes: Int, least: Int)
  /// mmap(2) refused; `code` is its errno.
  case noMemory(bytes: Int, code: Int32)

  public var description: String {
    switch self {
    case .tooSmall(let bytes, let least):
      "The near cache cannot work in \(bytes) bytes. Give it at least \(least)."
    case .noMemory(let bytes, let code):
      "The system refused \(bytes) bytes for the near cache: \(String(cString: strerror(code))). "
        + "Make the near cache smaller, or raise the limit on this process's address space."
    }
  }
}

/// Anonymous memory straight from the system. A page costs nothing until it is first touched, and
/// MAP_NORESERVE keeps strict overcommit from charging for it before. Source: mmap(2).
struct Mapping: ~Copyable {
  let base: UnsafeMutableRawPointer
  let count: Int

  init(count: Int) throws(NearCacheError) {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    guard let base = mmap(nil, count, PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED else {
      throw .noMemory(bytes: count, code: errno)
    }
    self.base = base
    self.count = count
  }

  // Inlinable because the accessors of the properties that hold a mapping are: without it the optimiser of
  // Swift 6.3.1 stops with an assertion in a release build.
  deinit { munmap(base, count) }

  /// Makes every byte zero again by giving the pages back, without touching one of them.
  /// Source: madvise(2), MADV_DONTNEED on private anonymous memory.
  func clear() {
    let outcome = madvise(base, count, MADV_DONTNEED)
    precondition(outcome == 0, "madvise(MADV_DONTNEED) cannot fail on a mapping of our own")
  }

  static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
}
