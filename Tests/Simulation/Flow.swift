import Configuration
import Invalidation
import NearCache

/// One thread of an application beside a host: takes a key from the cache, or from the database and puts it
/// into the cache; sometimes deletes, sometimes waits for its own write.
final class Flow {
  private unowned let host: Host
  private let world: World
  /// Which of the host's connections to Redis its commands take: those of RESP2 and RESP3 are apart.
  private let via: Int

  init(_ host: Host) {
    self.host = host
    world = host.world
    via = host.world.random.below(2)
  }

  func begin() {
    world.at(world.now + world.around(world.swarm.thinkTime)) { [self] in
      if world.isQuiet { return }
      if world.swarm.written > 0, world.random.once(in: 2) { return written() }
      let key = chooseKey()
      if world.swarm.isCalm { return leased(key) }
      if world.random.below(100) < world.swarm.deletes { return changeAndDelete(key) }
      switch world.random.below(100) {
      case 0..<55: plain(key)
      case 55..<80: leased(key)
      case 80..<86: changeAndDelete(key)
      case 86..<89: expire(key)
      case 89..<93: waitForOwn(key)
      default: if world.swarm.plainSet == .aged { writeThrough(key) } else { plain(key) }
      }
    }
  }

  private func chooseKey() -> Key {
    let all = world.keys.prefix(world.swarm.keys)
    return all[
      world.random.once(in: 2) ? world.random.below(min(2, all.count)) : world.random.below(all.count)]
  }

  /// A command reaches the sidecar's socket. `body` gets the date of its connection; false: nobody listens.
  private func command(_ body: @escaping (Instant) -> Void) -> Bool {
    guard host.isRunning else { return false }
    let dated = host.emptyAt
    host.awake(host.process) { [host] in host.turn { body(dated) } }
    return true
  }

  /// In this turn of the sidecar's loop or, if its process is still the same then, in a later one.
  private func later(_ wait: UInt64, _ body: @escaping () -> Void) {
    guard wait > 0, !world.isQuiet else { return body() }
    let process = host.process
    world.at(world.now + wait) { [self] in
      guard host.isRunning, host.process == process else { return begin() }
      host.awake(process) { [host] in host.turn(body) }
    }
  }

  private func step(_ body: @escaping () -> Void) {
    let pause: UInt64 =
      !world.isQuiet && world.random.below(100) < world.swarm.slowSteps
      ? world.random.below(world.swarm.window * 5 / 4)
      : world.lags()
        ? world.random.below(world.random.one(of: [30_000_000, 2_000_000_000]))
        : world.random.below(world.random.one(of: [100_000, 4_000_000]))
    world.at(world.now + pause, body)
  }

  private func chooseLife() -> UInt64? {
    world.random.once(in: 3) ? 40 + world.random.below(400 as UInt64) : nil
  }

  /// A process that ends takes its clients' connections with it: nothing is answered any more. Flows that wait
  /// would wait forever, so each has another begin in its place.
  private func plain(_ key: Key) {
    guard
      command({ [self] _ in
        host.read(key, via: via) { [self] outcome in
          guard case .miss = outcome else { return begin() }
          // The miss was answered, which the application hears a little later.
          let answered = host.clock
          step { [self] in
            guard let text = world.read(key) else { return begin() }
            step { [self] in store(key, text, since: answered) }
          }
        }
      })
    else { return begin() }
  }

  /// A SET without a token; the application takes care that less than a window has passed.
  private func store(_ key: Key, _ text: String, since: Instant) {
    let limit = world.swarm.window - 12_000_000
    guard host.clock.since(since) < limit,
      command({ [self] dated in
        // It may have to wait for what its connection has asked before it.
        let wait =
          world.random.below(400) < world.swarm.slowSteps ? world.random.below(3 * world.swarm.window) : 0
        later(wait) { [self] in
          let dated = world.weakness.contains(.setsDatedWhenRead) ? host.clock : dated
          world.note("\(host.number): SET \(key.name) \(text)")
          host.set(key, text, life: chooseLife(), dated: dated, via: via) { [self] _ in begin() }
        }
      })
    else { return begin() }
  }

  /// Something with a key that is written through.
  private func written() {
    let key = world.keys[world.swarm.keys + world.random.below(world.swarm.written)]
    switch world.random.below(100) {
    case 0..<35: set(key)
    case 35..<92: leased(key)
    case 92..<96: expire(key)
    default:
      guard
        command({ [self] _ in
          host.remove(key, via: via) { [self] _ in
            begin()
          } removed: {
          }
        })
      else {
        return begin()
      }
    }
  }

  /// A SET that is written through.
  private func set(_ key: Key) {
    let version = world.oracle.make()
    let text = Oracle.text([version])
    guard
      command({ [self] _ in
        world.note("\(host.number): SET \(key.name) \(text), through")
        host.setThrough(key, version, life: chooseLife()) { [self] _ in begin() }
      })
    else {
      world.oracle.refuse(version)
      return begin()
    }
  }

  /// `aged`: a SET after a read that no miss led to.
  private func writeThrough(_ key: Key) {
    guard let text = world.read(key) else { return begin() }
    let read = host.clock
    step { [self] in store(key, text, since: read) }
  }

  private func leased(_ key: Key) {
    guard
      command({ [self] _ in
        host.read(key, via: via) { [self] outcome in
          guard case .miss(let lease?) = outcome else { return begin() }
          step { [self] in
            guard let text = world.read(key) else { return begin() }
            step { [self] in
              guard
                command({ [self] _ in
                  world.note("\(host.number): FILL \(key.name) \(text) under \(lease.stamp)")
                  host.fill(key, text, life: chooseLife(), lease, plain: false, via: via) { [self] _ in
                    begin()
                  }
                })
              else { return begin() }
            }
          }
        }
      })
    else { return begin() }
  }

  /// The same for all keys of a prefix, of one that no rule gives, or of a tag.
  private func changeAndInvalidate(_ key: Key) {
    let (a, b) = (key.number / 2, key.number % 2)
    let group = Array(
      world.random.one(of: ["ps:c:\(a):", "ps:c:\(a):", "tg:\(b)", "tg:\(b)", "ps:c:\(a):\(b):", "ps:"]).utf8)
    let keys = world.mapping.keys(of: group).filter { !$0.isWritten }
    let old = keys.map { world.externals[$0.number] }
    for key in keys { world.externals[key.number] = world.oracle.make() }
    let losses = world.redis.losses
    var isCleared = false
    guard
      command({ [self] _ in
        host.invalidate(group, via: via) { [self] outcome in
          if case .done = outcome, isCleared, losses == world.redis.losses {
            for (key, old) in zip(keys, old) {
              world.oracle.supersede(old, at: world.now)
              host.noteRemoved(key, old)
            }
          }
          begin()
        } cleared: {
          isCleared = true
        }
      })
    else { return begin() }
  }

  /// Something changes that no row stands behind; then the key is deleted.
  private func changeAndDelete(_ key: Key) {
    if world.swarm.hasGroups, world.random.once(in: 2) { return changeAndInvalidate(key) }
    let old = world.externals[key.number]
    world.externals[key.number] = world.oracle.make()
    let losses = world.redis.losses
    var isRemoved = false
    guard
      command({ [self] _ in
        host.remove(key, via: via) { [self] outcome in
          if case .done = outcome, isRemoved, losses == world.redis.losses {
            world.oracle.supersede(old, at: world.now)
            host.noteRemoved(key, old)
          }
          begin()
        } removed: {
          isRemoved = true
        }
      })
    else { return begin() }
  }

  private func expire(_ key: Key) {
    let life = world.random.below(200) - 20
    guard command({ [self] _ in host.expire(key, life: life, via: via) { [self] _ in begin() } }) else {
      return begin()
    }
  }

  /// NEARSIDE WAIT with the position after a commit: what follows shows nothing older.
  private func waitForOwn(_ key: Key) {
    guard world.postgres.isUp else { return begin() }
    let (position, since, incarnation) = (LSN(world.postgres.written), world.now, world.postgres.incarnation)
    guard
      command({ [self] _ in
        host.wait(for: position) { [self] reached in
          guard reached else { return begin() }
          guard
            command({ [self] _ in
              host.read(key, via: via) { [self] outcome in
                // A position of a later timeline may lie below what an earlier one has come to.
                if case .hit(let text) = outcome, world.redis.isOf(incarnation, host.follower.generation) {
                  world.count("read after waiting")
                  let what = "read of \(key.name) on host \(host.number) after WAIT \(position)"
                  world.check(text, before: since, rowsOnly: true, what)
                }
                begin()
              }
            })
          else { return begin() }
        }
      })
    else { return begin() }
  }
}
