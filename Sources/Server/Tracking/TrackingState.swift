/// What CLIENT TRACKING has set for one client.
///
/// Errors and their order are those of Redis 7.0 (networking.c, `clientCommand`), byte for byte.
struct TrackingState: Equatable {
  /// The client that messages go to instead; `token` as epoll knows it.
  struct Redirect: Equatable {
    var id: Int
    var token: UInt64
  }

  var broadcasts = false
  var optsIn = false
  var optsOut = false
  /// What it writes itself is not told to it.
  var hasNoLoop = false
  /// CLIENT CACHING was given, for the next command or transaction.
  var isCaching = false
  /// A message could not be sent since the client that it is redirected to has gone.
  var isBroken = false
  var redirect: Redirect?
  /// Of a broadcasting client, in order.
  var prefixes: [[UInt8]] = []

  /// Whether what the next command reads is to be remembered.
  var remembers: Bool {
    if broadcasts { return false }
    return optsIn ? isCaching : optsOut ? !isCaching : true
  }

  /// The words of CLIENT TRACKINGINFO.
  static func flags(_ state: TrackingState?) -> [String] {
    guard let state else { return ["off"] }
    var flags = ["on"]
    if state.broadcasts { flags.append("bcast") }
    if state.optsIn { flags.append("optin") }
    if state.optsIn, state.isCaching { flags.append("caching-yes") }
    if state.optsOut { flags.append("optout") }
    if state.optsOut, state.isCaching { flags.append("caching-no") }
    if state.hasNoLoop { flags.append("noloop") }
    if state.isBroken { flags.append("broken_redirect") }
    return flags
  }

  /// What CLIENT TRACKING leaves behind; nil: nothing is tracked.
  /// - Parameters:
  ///   - old: what is in force.
  ///   - client: whether there is a client with this id, and its token.
  static func after(
    _ request: Request, _ old: TrackingState?, client: (Int) -> UInt64?
  ) throws(ErrorReply) -> TrackingState? {
    let options = try Options(request, client)
    if request.isWord(2, "off") { return nil }
    guard request.isWord(2, "on") else { throw .syntax }
    var state = options.state
    guard state.broadcasts || state.prefixes.isEmpty else {
      throw ErrorReply("ERR PREFIX option requires BCAST mode to be enabled")
    }
    if let old, old.broadcasts != state.broadcasts {
      throw ErrorReply(
        "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then "
          + "re-enabling it with a different mode.")
    }
    if state.broadcasts, state.optsIn || state.optsOut {
      throw ErrorReply("ERR OPTIN and OPTOUT are not compatible with BCAST")
    }
    if state.optsIn, state.optsOut {
      throw ErrorReply("ERR You can't specify both OPTIN mode and OPTOUT mode")
    }
    if let old, state.optsIn && old.optsOut || state.optsOut && old.optsIn {
      throw ErrorReply(
        "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then "
          + "re-enabling it with a different mode.")
    }
    if state.broadcasts {
      if let overlap = overlap(state.prefixes, old?.prefixes ?? []) { throw overlap }
      let given = state.prefixes.isEmpty ? [[]] : state.prefixes
      let known = old?.prefixes ?? []
      state.prefixes = (known + given.filter { !known.contains($0) })
        .sorted { $0.lexicographicallyPrecedes($1) }
    }
    state.isCaching = old?.isCaching ?? false
    return state
  }

  private struct Options {
    var state = TrackingState()

    init(_ request: Request, _ client: (Int) -> UInt64?) throws(ErrorReply) {
      var index = 3
      while index < request.count {
        let hasMore = index + 1 < request.count
        if request.isWord(index, "redirect"), hasMore {
          index += 1
          if state.redirect != nil {
            throw ErrorReply("ERR A client can only redirect to a single other client")
          }
          guard let id = request.integer(index) else { throw .notInteger }
          guard let token = client(id) else {
            throw ErrorReply("ERR The client ID you want redirect to does not exist")
          }
          state.redirect = Redirect(id: id, token: token)
        } else if request.isWord(index, "bcast") {
          state.broadcasts = true
        } else if request.isWord(index, "optin") {
          state.optsIn = true
        } else if request.isWord(index, "optout") {
          state.optsOut = true
        } else if request.isWord(index, "noloop") {
          state.hasNoLoop = true
        } else if request.isWord(index, "prefix"), hasMore {
          index += 1
          state.prefixes.append([UInt8](request[index]))
        } else {
          throw .syntax
        }
        index += 1
      }
    }
  }

  /// A key must not match two prefixes of a client, or it would be told twice.
  private static func overlap(_ given: [[UInt8]], _ known: [[UInt8]]) -> ErrorReply? {
    func overlaps(_ a: [UInt8], _ b: [UInt8]) -> Bool { a.starts(with: b) || b.starts(with: a) }
    func shown(_ bytes: [UInt8]) -> String {
      bytes.withUnsafeBytes { EventLoop.shown($0, 1024) }
    }
    for (place, prefix) in given.enumerated() {
      if let other = known.first(where: { overlaps($0, prefix) }) {
        return ErrorReply(
          "ERR Prefix '\(shown(prefix))' overlaps with an existing prefix '\(shown(other))'. Prefixes for a "
            + "single client must not overlap.")
      }
      if let other = given[(place + 1)...].first(where: { overlaps($0, prefix) }) {
        return ErrorReply(
          "ERR Prefix '\(shown(prefix))' overlaps with another provided prefix '\(shown(other))'. Prefixes for "
            + "a single client must not overlap.")
      }
    }
    return nil
  }

  /// CLIENT CACHING YES or NO.
  mutating func caching(_ request: Request) throws(ErrorReply) {
    if request.isWord(2, "yes") {
      guard optsIn else {
        throw ErrorReply("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
      }
    } else if request.isWord(2, "no") {
      guard optsOut else {
        throw ErrorReply("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
      }
    } else {
      throw .syntax
    }
    isCaching = true
  }

  static let cachingWithoutTracking = ErrorReply(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
  )
}
