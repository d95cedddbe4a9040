import Metrics
import NIOConcurrencyHelpers
import NIOCore

/// What all connections share.
final class AdminDoor: Sendable {
  let source: any AdminSource
  let hub: TailHub
  private let admits: @Sendable (UInt32, UInt32) -> Bool
  private let state = NIOLockedValueBox((connections: 0, places: AdminPlaces(socket: nil, tcp: nil)))

  init(
    source: any AdminSource, hub: TailHub, admits: @escaping @Sendable (UInt32, UInt32) -> Bool
  ) {
    self.admits = admits
    self.source = source
    self.hub = hub
  }

  var places: AdminPlaces { state.withLockedValue { $0.places } }

  func opened(_ places: AdminPlaces) { state.withLockedValue { $0.places = places } }

  /// `struct ucred` of unix(7), which Glibc's module does not show.
  private struct Peer: Sendable {
    var process: Int32 = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
  }

  /// Fails for a connection of somebody who may not make one.
  func admit(_ channel: any Channel) -> EventLoopFuture<Void> {
    guard let options = channel as? any SocketOptionProvider else {
      return channel.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
    }
    let peer: EventLoopFuture<Peer> = options.unsafeGetSocketOption(level: .socket, name: .so_peercred)
    return peer.flatMapThrowing { [admits] peer in
      guard admits(peer.user, peer.group) else { throw ChannelError.eof }
    }
  }

  /// Whether there is room for one more connection, which is counted until it is closed.
  func enter(_ channel: any Channel) -> Bool {
    let isLetIn = state.withLockedValue { state in
      guard state.connections < AdminServer.mostConnections else { return false }
      state.connections += 1
      return true
    }
    guard isLetIn else { return false }
    channel.closeFuture.whenComplete { [self] _ in state.withLockedValue { $0.connections -= 1 } }
    return true
  }
}

extension NIOBSDSocket.Option {
  /// SO_PEERCRED, socket(7).
  fileprivate static let so_peercred = NIOBSDSocket.Option(rawValue: 17)
}
