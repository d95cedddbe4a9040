import Glibc
import Invalidation

/// When a value is loaded anew before it ends, so that nobody has to wait for it: the later the likelier, and the
/// earlier the longer its load takes. Many readers decide each for itself, and one of them comes first.
/// Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
public struct EarlyRefresh: Sendable {
  /// How long the loads of keys took here, in nanoseconds, times beta, by a hash of the key.
  private var weights: [UInt64: Double] = [:]
  private let capacity: Int
  /// The state of SplitMix64: chance is asked for at each hit, and the system's is too dear for that.
  private var random: UInt64
  /// The longest time before its end at which any value was ever due, in nanoseconds.
  public private(set) var longestLead: UInt64 = 0

  /// - Parameters:
  ///   - capacity: of how many keys the time is kept; those of before are forgotten when it is full.
  ///   - seed: what its chance begins with.
  public init(capacity: Int = 65_536, seed: UInt64 = .random(in: .min ... .max)) {
    self.capacity = capacity
    random = seed
  }

  /// A key was loaded. `beta`: above 1 it is refreshed earlier, below 1 later.
  public mutating func took(_ key: UInt64, _ nanoseconds: UInt64, beta: Double) {
    if weights.count >= capacity, weights[key] == nil { weights.removeAll(keepingCapacity: true) }
    let weight = Double(nanoseconds) * beta
    weights[key] = weight
    longestLead = max(longestLead, UInt64(exactly: (weight * Self.longestDraw).rounded(.up)) ?? .max)
  }

  /// Whether a value is to be loaded anew that lives for `left` nanoseconds more. A key that was never loaded here
  /// is left to the host that did.
  public mutating func isDue(_ key: UInt64, left: UInt64) -> Bool {
    guard let weight = weights[key], weight * Self.longestDraw >= Double(left) else { return false }
    return weight * draw() >= Double(left)
  }

  /// -ln of the smallest number that `draw` makes its logarithm of.
  private static let longestDraw = 53 * M_LN2

  /// -ln of a random number above 0 and up to 1.
  private mutating func draw() -> Double {
    random &+= 0x9e37_79b9_7f4a_7c15
    var bits = random
    bits = (bits ^ bits >> 30) &* 0xbf58_476d_1ce4_e5b9
    bits = (bits ^ bits >> 27) &* 0x94d0_49bb_1331_11eb
    bits ^= bits >> 31
    return -log(Double(bits >> 11 + 1) * 0x1p-53)
  }
}
