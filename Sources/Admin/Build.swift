/// What is known of this build.
enum Build {
  /// Releases are built from a tag, which the version names; nothing else is known of the revision.
  static let facts = (revision: "", swift: swiftVersion)

  #if swift(>=6.4)
    static let swiftVersion = "6.4"
  #elseif swift(>=6.3)
    static let swiftVersion = "6.3"
  #else
    static let swiftVersion = "6.2"
  #endif
}
