"""Makes scan_check lines from GCC's own preprocessor tests: testsuite.py TESTSUITE CALLS."""

import glob, json, os, re, shlex, sys
R=sys.argv[1]
def opts(path):
    t=open(path,'rb').read().decode('latin1')
    m=re.search(r'dg-options\s+(?:"([^"]*)"|\{\s*"?([^}"]*)"?\s*\})',t)
    o=(m.group(1) or m.group(2) or '') if m else ''
    for a in re.findall(r'dg-additional-options\s+"([^"]*)"',t): o+=' '+a
    o=o.replace('$srcdir',R)
    try: return [x for x in shlex.split(o) if not x.startswith('-d') and x not in('-M','-MM','-MD','-E','-P','-save-temps')]
    except ValueError: return []
out=open(sys.argv[2],'w'); n=0
def emit(prog,f,extra):
    global n
    d,b=os.path.split(f)
    out.write(json.dumps({"dir":d,"args":[prog]+extra+['-c',b]})+'\n'); n+=1
for f in sorted(glob.glob(R+'/gcc.dg/cpp/**/*.[cS]',recursive=True)):
    o=opts(f); emit('gcc',f,o)
    for s in ('-std=c99','-std=gnu2x','-std=c11'):
        if not any(x.startswith('-std') or x=='-ansi' for x in o): emit('gcc',f,o+[s])
for f in sorted(glob.glob(R+'/c-c++-common/cpp/**/*.c',recursive=True)+glob.glob(R+'/c-c++-common/raw-string*.c')):
    o=opts(f); emit('gcc',f,o); emit('g++',f,o+['-x','c++'])
    emit('g++',f,[x for x in o if not x.startswith('-std')]+['-std=c++20','-x','c++']); emit('gcc',f,[x for x in o if not x.startswith('-std')]+['-std=gnu99'])
for f in sorted(glob.glob(R+'/g++.dg/cpp*/**/*.C',recursive=True)):
    if '/cpp0x/' in f or '/cpp1y/' in f or '/cpp1z/' in f or '/cpp2a/' in f or '/cpp23/' in f:
        if not re.search(r'^\s*#',open(f,'rb').read().decode('latin1'),re.M): continue
        if sum(map(ord,f))%3: continue
    o=opts(f); emit('g++',f,o+([] if any(x.startswith('-std') for x in o) else ['-std=c++17']))
print(n)
