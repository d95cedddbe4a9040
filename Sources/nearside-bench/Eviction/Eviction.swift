import CLinux
import Glibc
import Invalidation
import NearCache
import TestSupport

/// What the near cache keeps, beside what LRU and W-TinyLFU keep of the same requests in as many entries; how long one
/// insert takes at most; and how much memory a full one has taken.
enum Eviction {
  static let value = [UInt8](repeating: 120, count: 100)

  /// - Parameter traces: files with the requests of real caches; see `Trace`.
  static func measure(_ rounds: Rounds, traces: [String], into report: inout Report) throws {
    try insert(rounds.pick(1_000_000, 20_000), into: &report)
    let keys = rounds.pick(1_000_000, 20_000)
    let popular = Popularity.zipf.draws(rounds.pick(1 << 22, 1 << 17), keys: keys)
    // The first half fills the cache.
    try compare("Zipf 0.99", popular.map { Int32($0) }, keys, from: popular.count / 2, into: &report)
    // Three of ten requests go over other keys, one after the other.
    var (next, random) = (0, SplitMix(state: 7))
    let mixed = popular.map { key -> Int32 in
      guard random.next() % 10 < 3 else { return Int32(key) }
      next = (next + 1) % keys
      return Int32(keys + next)
    }
    try compare("Zipf 0.99 with 30 % of a scan", mixed, keys, from: mixed.count / 2, into: &report)
    for file in traces {
      let trace = try Trace(file: file)
      let requests = Report.grouped(Double(trace.requests.count))
      try compare("\(trace.name), \(requests) requests", trace.requests, trace.keys, from: 0, into: &report)
    }
  }

  /// A cache for a tenth of the keys; `from`: the first request that counts.
  private static func compare(
    _ name: String, _ stream: [Int32], _ keys: Int, from: Int, into report: inout Report
  ) throws {
    var near = try Near(entries: keys / 10)
    let capacity = near.capacity
    var lru = LRU(capacity: capacity, keys: 2 * keys)
    var tiny = WTinyLFU(capacity: capacity, keys: 2 * keys)
    for (policy, access) in [
      ("the near cache (SIEVE)", { near.access($0) }), ("LRU", { lru.access($0) }),
      ("W-TinyLFU", { tiny.access($0) }),
    ] as [(String, (Int32) -> Bool)] {
      var hits = 0
      for (place, key) in stream.enumerated() where access(key) && place >= from { hits += 1 }
      let fact = Report.Fact(
        name: "\(name): \(policy)", value: 100 * Double(hits) / Double(stream.count - from), unit: "%")
      report.add(
        [fact],
        to: "Hits with room for \(Report.grouped(Double(capacity))) of \(Report.grouped(Double(keys))) keys")
    }
  }

  /// Fills a cache for so many entries, asks for all of them, and then inserts as many others.
  private static func insert(_ entries: Int, into report: inout Report) throws {
    let before = ProcessCost.resident([getpid()])
    var near = try Near(entries: entries)
    for key in 0..<Int32(near.capacity) { _ = near.access(key) }
    let resident = ProcessCost.resident([getpid()]) - before
    for key in 0..<Int32(near.capacity) { _ = near.access(key) }
    var (longest, all): (UInt64, UInt64) = (0, 0)
    let count = Int32(near.capacity)
    for key in count..<2 * count {
      let start = processorTime()
      near.insert(key)
      let time = processorTime() - start
      longest = max(longest, time)
      all += time
    }
    report.add(
      [
        .init(name: "resident, by its bound", value: Double(resident) / Double(near.limit), unit: "×"),
        .init(name: "the mean insert that evicts", value: Double(all) / Double(count), unit: "ns"),
        .init(name: "the longest, processor time", value: Double(longest) / 1000, unit: "µs"),
      ], to: "A near cache of \(Report.grouped(Double(count))) entries")
  }

  /// Of this thread: what other programs take of the processor is no part of it.
  private static func processorTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// The near cache itself, under keys made of numbers.
private struct Near: ~Copyable {
  private var cache: NearCache
  private var key = [UInt8](repeating: 0, count: 12)
  let capacity: Int
  let limit: Int

  /// With room for about so many entries.
  init(entries: Int) throws {
    // How many fit is found with a small one: entries are of one size.
    var sample = try NearCache(bytes: 1 << 22, maxEntry: 4096, seed: 1)
    var (number, name) = (Int32(0), [UInt8](repeating: 0, count: 12))
    while sample.statistics.evictions.size == 0 {
      Self.write(number, to: &name)
      _ = Self.insert(name, into: &sample)
      number += 1
    }
    let bytes = Int(Double(entries) * Double(1 << 22) / Double(sample.statistics.entries))
    let cache = try NearCache(bytes: bytes, maxEntry: 4096, seed: 1)
    self.cache = cache
    capacity = entries
    limit = bytes
  }

  mutating func access(_ number: Int32) -> Bool {
    Self.write(number, to: &key)
    let isHit = key.withUnsafeBytes {
      cache.find($0, hash: cache.hash($0), now: Instant(nanoseconds: 0)) != nil
    }
    if !isHit { _ = Self.insert(key, into: &cache) }
    return isHit
  }

  mutating func insert(_ number: Int32) {
    Self.write(number, to: &key)
    _ = Self.insert(key, into: &cache)
  }

  private static func insert(_ key: [UInt8], into cache: inout NearCache) -> Bool {
    let hash = key.withUnsafeBytes { cache.hash($0) }
    return key.withUnsafeBytes { key in
      Eviction.value.withUnsafeBytes { cache.insert(key, hash: hash, value: $0, expires: nil, tag: 0) }
    }
  }

  private static func write(_ number: Int32, to key: inout [UInt8]) {
    var rest = number
    for place in key.indices.reversed() {
      key[place] = UInt8(ascii: "0") + UInt8(rest % 10)
      rest /= 10
    }
  }
}
