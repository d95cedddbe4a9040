import Invalidation

/// The feed: mirrors `RedisFeed.follow` and `poll`, which run on a thread of their own and hand what they hear
/// to the event loop.
extension Host {
  struct Feed {
    var link: Link?
    var generation: Generation?
    var position = JournalID.zero
    var pause: UInt64 = 50_000_000
    var quietSince = Instant(nanoseconds: 0)
  }

  func feedConnect() {
    guard world.redis.isUp else { return feedFailed() }
    let redis = world.redis
    let link = Link(world, self, incarnation: { redis.incarnation }) { [unowned self] in feedFailed() }
    redis.links.append(link)
    feed.link = link
    feedPoll(link)
  }

  private func feedFailed() {
    feed.link?.cut()
    feed.link = nil
    post(.unreachable("gone"))
    let pause = feed.pause / 2 + world.random.below(feed.pause / 2 + 1)
    feed.pause = min(feed.pause * 2, 2_000_000_000)
    after(pause) { [self] in feedConnect() }
  }

  /// A connection on which nothing comes: the host gives up after its time-out.
  func feedBroke() {
    guard let link = feed.link else { return }
    link.cut(noticed: world.noticeDelay())
  }

  private func feedPoll(_ link: Link) {
    guard feed.link === link, !link.isCut else { return }
    let asked = clock
    let reading = feed.generation
    let position = feed.position
    let redis = world.redis
    link.send { [self] in
      let state = redis.state
      link.answer { [self] in
        post(.state(state, asked: asked))
        if state?.generation != feed.generation {
          feed.generation = state?.generation
          feed.position = state?.journal ?? .zero
          feed.quietSince = asked
        }
        guard reading == nil else { return }
        feed.pause = 50_000_000
        if state == nil {
          after(Cadence.busy) { [self] in feedPoll(link) }
        } else {
          feedPoll(link)
        }
      }
    }
    guard let reading else { return }
    let wait = Cadence(bound: world.swarm.bound).period(quietSince: feed.quietSince, now: asked)
    link.send { [self] in
      redis.read(reading, after: position, patience: wait) { [self] entries in
        link.answer { [self] in
          feed.pause = 50_000_000
          if reading == feed.generation {
            if let last = entries.last {
              feed.quietSince = clock
              feed.position = last.id
              post(.entries(entries, generation: reading))
              if last.isEmpty { feed.generation = nil }
            }
            feedPoll(link)
          } else if feed.generation == nil {
            after(Cadence.busy) { [self] in feedPoll(link) }
          } else {
            feedPoll(link)
          }
        }
      }
    }
  }

  /// Through the mailbox: the event loop hears it in a later turn.
  private func post(_ event: FeedEvent) {
    let process = process
    world.at(world.now + world.random.below(world.random.one(of: [20_000, 20_000, 3_000_000]))) { [self] in
      mailbox.append(event)
      awake(process) { [self] in
        turn { [self] in
          let events = mailbox
          mailbox = []
          for event in events { hear(event) }
        }
      }
    }
  }
}
