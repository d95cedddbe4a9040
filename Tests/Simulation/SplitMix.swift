/// The generator from which everything in a run follows. Source: Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", 2014 (the public domain splitmix64).
struct SplitMix {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

  mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }

  mutating func one<Choice>(of choices: [Choice]) -> Choice { choices[below(choices.count)] }
  mutating func one(of choices: [UInt64]) -> UInt64 { choices[below(choices.count)] }

  /// True once in `count` times.
  mutating func once(in count: Int) -> Bool { below(count) == 0 }

  mutating func within(_ range: ClosedRange<UInt64>) -> UInt64 {
    range.lowerBound + below(range.upperBound - range.lowerBound + 1)
  }
}
