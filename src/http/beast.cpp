// The one place where Beast's function bodies are compiled.
#include <boost/beast/src.hpp>
