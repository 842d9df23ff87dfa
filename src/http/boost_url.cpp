// The one place where Boost.URL's function bodies are compiled.
#include <boost/url/src.hpp>
