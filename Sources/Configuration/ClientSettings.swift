/// Where applications connect, and which of them may.
public struct ListenSettings: Sendable, Hashable {
  /// At most 107 bytes, the size of sun_path less its final zero (unix(7)).
  public var path: String
  /// File mode of the socket, for example 0o660.
  public var mode: UInt16
  /// Name of the group that owns the socket; nil leaves the process's own.
  public var group: String?
  /// Where it listens beside the socket; nil: nowhere.
  public var tcp: LoopbackAddress?
  /// What clients must say to AUTH; nil: nothing.
  public var password: Secret?
  /// Names or numbers of those that may connect to the socket; both empty: whoever its mode lets in.
  public var users: [String]
  public var groups: [String]
  /// For how long behind the last work threads look for the next without sleeping, in nanoseconds; 0: they sleep at
  /// once.
  public var busyPoll: UInt64

  public init(
    path: String, mode: UInt16, group: String?, tcp: LoopbackAddress? = nil, password: Secret? = nil,
    users: [String] = [], groups: [String] = [], busyPoll: UInt64 = 0
  ) {
    self.path = path
    self.mode = mode
    self.group = group
    self.tcp = tcp
    self.password = password
    self.users = users
    self.groups = groups
    self.busyPoll = busyPoll
  }
}

/// Where operators look: metrics, health, the live page.
public struct AdminSettings: Sendable, Hashable {
  /// Path of the Unix socket; nil: there is none.
  public var socket: String?
  /// Where it also listens, read-only; nil: nowhere.
  public var tcp: NetworkAddress?

  public init(socket: String?, tcp: NetworkAddress? = nil) {
    self.socket = socket
    self.tcp = tcp
  }
}

/// What clients may use; the defaults are those of the table of options.
public struct ClientSettings: Sendable, Hashable {
  /// How much of a client's answers may wait for it.
  public struct OutputLimit: Sendable, Hashable {
    /// In bytes.
    public var hard: Int
    /// In bytes, for `softTime`; nil: no such limit.
    public var soft: Int?
    /// In nanoseconds.
    public var softTime: UInt64

    public init(hard: Int, soft: Int?, softTime: UInt64) {
      self.hard = hard
      self.soft = soft
      self.softTime = softTime
    }
  }

  /// How many may be connected at a time.
  public var most: Int
  /// How many bytes of a client's commands may wait, in bytes.
  public var queryBuffer: Int
  public var output: OutputLimit
  /// The same for a client that has subscriptions.
  public var messageOutput: OutputLimit
  /// How long a client may say nothing, in nanoseconds; nil: for ever.
  public var idle: UInt64?
  /// How many keys are remembered for clients that track, each counted once for each of them.
  public var trackedKeys: Int

  public init(
    most: Int = 10_000, queryBuffer: Int = 1 << 30,
    output: OutputLimit = OutputLimit(hard: 1 << 30, soft: nil, softTime: 60_000_000_000),
    messageOutput: OutputLimit = OutputLimit(hard: 32 << 20, soft: 8 << 20, softTime: 60_000_000_000),
    idle: UInt64? = nil, trackedKeys: Int = 1_000_000
  ) {
    self.most = most
    self.queryBuffer = queryBuffer
    self.output = output
    self.messageOutput = messageOutput
    self.idle = idle
    self.trackedKeys = trackedKeys
  }
}
