import Configuration
import Invalidation
import Metrics

/// Whoever compares cached values with the database is given some of the keys that were read.
public protocol KeySampler: Sendable {
  /// Called on the thread that has answered the read; returns at once.
  func sample(_ key: [UInt8])
}

/// Which hits are sampled: one in so many, at random distances.
struct Sampling {
  /// 0 to 1.
  let share: Double
  /// nil: none is.
  private var draw: Draw?

  init(share: Double) {
    self.share = share
    guard share > 0 else { return }
    let period = Int(min(1 / share, 1e9).rounded())
    draw = Draw(period: period, seed: UInt64.random(in: .min ... .max))
  }

  /// Counts hits; which of them, from 0 on, is to be sampled. One of so many that come together at most.
  @inline(__always)
  mutating func takes(_ hits: Int) -> Int? { draw?.draw(of: hits) }
}

/// The hits of the event loop's own clients.
struct Samplings {
  var near: Sampling
  var redis: Sampling

  init(share: Double) { (near, redis) = (Sampling(share: share), Sampling(share: share)) }
}

extension EventLoop {
  /// Which part of the hits is sampled: nothing if nobody wants any.
  var auditShare: Double { sampler == nil ? 0 : settings.audit.share }

  /// A near hit whose turn it is.
  @inline(never)
  func sampleNear(_ key: UnsafeRawBufferPointer) { sampler?.sample([UInt8](key)) }

  /// A value that came from Redis.
  mutating func sampleRedis(_ key: GovernedKey) {
    if sampling.redis.takes(1) != nil { sampler?.sample(key.bytes) }
  }
}
