// NearCache
