@main struct Nearside { static func main() {} }
