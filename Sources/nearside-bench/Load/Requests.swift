import Glibc

/// Which keys are asked for how often.
enum Popularity: String {
  case uniform
  /// The n-th key as often as 1/n^0.99: YCSB's default. Source: Cooper et al., "Benchmarking Cloud Serving Systems
  /// with YCSB", 2010.
  case zipf

  /// `count` draws of numbers below `keys`, always the same for the same arguments.
  func draws(_ count: Int, keys: Int) -> [UInt32] {
    var random = SplitMix(state: 42)
    switch self {
    case .uniform: return (0..<count).map { _ in UInt32(random.next() % UInt64(keys)) }
    case .zipf:
      var sums: [Double] = []
      sums.reserveCapacity(keys)
      var sum = 0.0
      for rank in 1...keys {
        sum += pow(Double(rank), -0.99)
        sums.append(sum)
      }
      // Ranks are spread over the keys, so that neighbours in rank are not neighbours in memory.
      var places = (0..<UInt32(keys)).map { $0 }
      for at in stride(from: keys - 1, to: 0, by: -1) {
        places.swapAt(at, Int(random.next() % UInt64(at + 1)))
      }
      return (0..<count).map { _ in
        let wanted = Double(random.next() >> 11) / Double(1 << 53) * sum
        var (low, high) = (0, keys - 1)
        while low < high {
          let middle = (low + high) / 2
          if sums[middle] < wanted { low = middle + 1 } else { high = middle }
        }
        return places[low]
      }
    }
  }
}

/// A small generator of pseudo-random numbers: the same seed gives the same run. Source: Steele, Lea and Flood,
/// "Fast Splittable Pseudorandom Number Generators", 2014.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// What clients ask for.
struct Workload {
  enum Kind: Equatable {
    case get
    case mget(Int)
    /// Nine reads to one SET.
    case mixed
  }

  var kind = Kind.get
  var popularity = Popularity.uniform
  var keys = 100_000
  var valueBytes = 100
  var connections = 50
  /// Requests that each connection sends at once.
  var depth = 1

  var title: String {
    let name =
      switch kind {
      case .get: "GET"
      case .mget(let count): "MGET of \(count)"
      case .mixed: "90 % GET, 10 % SET"
      }
    let noun = connections == 1 ? "connection" : "connections"
    return
      "\(name), \(connections) \(noun), depth \(depth), \(popularity.rawValue) keys, \(Self.size(valueBytes))"
  }

  static func size(_ bytes: Int) -> String { bytes % 1024 == 0 ? "\(bytes / 1024) KiB" : "\(bytes) B" }
}

/// Encoded requests, one behind the other, and the order in which they are sent.
struct Requests {
  /// The name of a key by its number. All have the same length, so that all requests of a kind have, too.
  static func key(_ number: Int, _ prefix: String) -> String {
    let digits = String(number)
    return prefix + String(repeating: "0", count: 8 - digits.count) + digits
  }

  private(set) var bytes: [UInt8] = []
  private(set) var starts: [Int] = [0]
  private(set) var order: [UInt32] = []

  init(_ workload: Workload, _ dialect: Dialect, prefix: String) {
    let draws = workload.popularity.draws(1 << 18, keys: workload.keys)
    switch workload.kind {
    case .get:
      for number in 0..<workload.keys { add(.get(Self.key(number, prefix)), dialect) }
      order = draws
    case .mget(let count):
      for batch in 0..<1 << 14 {
        let keys = (0..<count).map { Self.key(Int(draws[(batch * count + $0) % draws.count]), prefix) }
        add(.mget(keys), dialect)
      }
      order = (0..<1 << 14).map { UInt32($0) }
    case .mixed:
      for number in 0..<workload.keys { add(.get(Self.key(number, prefix)), dialect) }
      // One SET for each key would fill the memory with values: a sample of the keys is written.
      let written = min(workload.keys, 4096)
      for number in 0..<written {
        add(.set(Self.key(number, prefix), valueBytes: workload.valueBytes), dialect)
      }
      order = draws.enumerated().map { place, draw in
        place % 10 == 9 ? UInt32(workload.keys) + draw % UInt32(written) : draw
      }
    }
  }

  /// Those that put every key there, each once.
  init(filling workload: Workload, _ dialect: Dialect, prefix: String) {
    for number in 0..<workload.keys {
      add(.set(Self.key(number, prefix), valueBytes: workload.valueBytes), dialect)
    }
    order = (0..<UInt32(workload.keys)).map { $0 }
  }

  /// Those that delete every key, each once.
  init(deleting workload: Workload, _ dialect: Dialect, prefix: String) {
    for number in 0..<workload.keys { add(.delete(Self.key(number, prefix)), dialect) }
    order = (0..<UInt32(workload.keys)).map { $0 }
  }

  private mutating func add(_ operation: Operation, _ dialect: Dialect) {
    bytes += operation.encoded(dialect)
    starts.append(bytes.count)
  }
}
