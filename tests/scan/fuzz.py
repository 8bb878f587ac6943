"""Makes random trees of sources and scan_check lines: fuzz.py SEED COUNT DIRECTORY CALLS.

Each branch of each conditional includes a file of its own, so that a condition that is evaluated differently shows.
"""

import json, os, random, shutil, sys
seed=int(sys.argv[1]); N=int(sys.argv[2]); R=random.Random(seed)
root=os.path.join(os.path.abspath(sys.argv[3]),f'w{seed}')
shutil.rmtree(root,ignore_errors=True); os.makedirs(root)
out=open(sys.argv[4],'w')
MAC=['A','B','C','D','E','__GNUC__','__STDC_VERSION__','__cplusplus','__x86_64__','NOPE','linux']
FUN=['F','G','H','K']
def num():
    return R.choice(['0','1','2','3','7','10','0x1F','017','42U','3L','1ULL','0xFFFFFFFFFFFFFFFF','9223372036854775807','2147483648','0b101',"'a'","'\\0'","'\\n'",'100','255u'])
def expr(d=0):
    k=R.random()
    if d>3 or k<.25: return num()
    if k<.4: return R.choice(MAC)
    if k<.5: return R.choice(['defined %s','defined(%s)','!defined(%s)','defined ( %s )'])%R.choice(MAC+FUN)
    if k<.58: return R.choice(['F(%s)','G(%s)','K(%s)','K(1,%s)','F (%s)','G(F(%s))','CATN(A,%s)'])%(expr(d+1)) if R.random()<.8 else 'H(%s)'%R.choice(['2','A','1'])
    if k<.63: return '__has_include(%s)'%R.choice(['"h%d.h"'%R.randrange(9),'<h%d.h>'%R.randrange(9),'<stdio.h>','"nope.h"','HDR','HDR'])
    if k<.66: return '__has_attribute(%s)'%R.choice(['noreturn','nope','pure','__const__','A'])
    if k<.72: return R.choice(['-','!','~','+'])+'('+expr(d+1)+')'
    if k<.78: return '(%s ? %s : %s)'%(expr(d+1),expr(d+1),expr(d+1))
    op=R.choice(['+','-','*','/','%','<<','>>','<','>','<=','>=','==','!=','&','|','^','&&','||','&&','||'])
    a,b=expr(d+1),expr(d+1)
    if op in('/','%'): b='(1|(%s))'%b
    if op in('<<','>>'): b='((%s)&7)'%b
    return R.choice(['%s %s %s','(%s)%s(%s)','%s%s%s'])%(a,op,b)
mk=[0]
def marker(): 
    mk[0]+=1; return R.choice(['#include "m/m%d.h"','#include <m/m%d.h>','# include "m/m%d.h" // x','#include "m/m%d.h" /* a\n b */'])%(mk[0]%40)
def junk():
    return R.choice(['int x;','/* #if 0 */','// #include "nope.h" \\\n#include "also-nope.h"','/* multi\n#include "nope.h"\n*/','char *s = "/* not a comment";',"char c = '\"';",'const char*t="a\\\n#include \\"nope.h\\"\\n";','x = 1 /* c */ # foo','','   ','#','# /* null */','#pragma GCC diagnostic push','#pragma unknown stuff "x','#ident "x"','int y = 5 \\\n+ 6;','#line 77 "zzz.c"' if R.random()<.1 else '','a / b // c','"unterminated' if R.random()<.1 else '',"it''s" if R.random()<.1 else '','f(1,\n#define INNER 1\n2)' if R.random()<.3 else '','<::x' ,'/\\\n* spliced comment #include "nope.h" *\\\n/','#/**/define SPL 1','%:define DIG 1' if R.random()<.5 else ''])
RAW=['const char*r=R"(\n#include "nope.h"\n)";','auto q=uR"xx(")\n#if 0\n)xx";','x=u8R"(a\\\nb)";']
def body():
    k=R.random()
    if k<.3: return num()
    if k<.5: return '(%s)'%expr(2)
    if k<.6: return R.choice(MAC)
    if k<.7: return '1 /* c */'
    if k<.8: return 'F(3)'
    return '%s %s %s'%(R.choice(MAC),R.choice(['+','*','||','<']),R.choice(MAC))
def fdef():
    return R.choice(['F(x) (x)','F(x) (x+1)','G(x) F(x)','G(x) ((x)*2)','G(x) (F(x) + G(x))' if 0 else 'G(x) (F(x) + 1)','H(x) x##1','H(x) 1##x' if 0 else 'H(x) (x)','K(...) (0,__VA_ARGS__)' if 0 else 'K(...) ((__VA_ARGS__ ,0) < 1)' if 0 else 'K(...) K2(__VA_ARGS__,1)','K(a, ...) (a)','F(x) /* c */ (x)','K(a,b...) (a)', 'F(x) (x) \\\n + 1','F(x)(x)','G( x ) ( x )'])
PRO='#define F(x) (x)\n#define G(x) (x)\n#define H(x) (x)\n#define K(...) 1\n#define K2(a,...) (a)\n#define CATN(a,b) (a+b)\n#define A 1\n#define STR(x) #x\n#define HDR "h1.h"\n'
def inc():
    n=R.randrange(9); q=R.choice(['"h%d.h"','<h%d.h>','"../d1/h%d.h"','"./h%d.h"','"d2/h%d.h"','<../d3/h%d.h>','"s0/h%d.h"'])%n
    return '#if __has_include(%s)\n#include %s\n#endif'%(q,q)
def nxt():
    n=R.randrange(9); q=R.choice(['"h%d.h"','<h%d.h>'])%n
    return '#if __has_include_next(%s)\n#include_next %s\n#endif'%(q,q)
def comp():
    n=R.randrange(9)
    return R.choice(['#undef HDR\n#define HDR "h%d.h"\n#if __has_include(HDR)\n#include HDR\n#endif'%n,
      '#undef HDR\n#define HDR <h%d.h>\n#if __has_include(HDR)\n#include HDR\n#endif'%n,
      '#undef STR\n#undef XSTR\n#define STR(x) #x\n#define XSTR(x) STR(x)\n#define NAME m/m%d\n#include XSTR(NAME.h)\n#undef NAME'%(n),
      '#undef CAT\n#define CAT(a,b) <a/m##b.h>\n#include CAT(m,%d)'%n,
      '#undef ANG\n#define ANG(x) <x>\n#include ANG(m/m%d.h)'%n,
      '#if __INCLUDE_LEVEL__ < 4 && !defined SELF%d\n#define SELF%d\n#include __FILE__\n#endif'%(mk[0],mk[0]),
      '#if __LINE__ % 2\n'+marker()+'\n#endif'])
def block(d=0):
    L=[]
    for _ in range(R.randrange(1,6)):
        k=R.random()
        if k<.22: L.append(junk())
        elif k<.36: L.append('#define %s %s'%(R.choice(MAC[:5]),body())) if R.random()<.5 else L.append('#undef %s'%R.choice(MAC[:5]))
        elif k<.44:
            f=fdef(); L.append('#undef %s\n#define %s'%(f[0],f))
        elif k<.56: L.append(inc())
        elif k<.60: L.append(nxt())
        elif k<.66: L.append(comp())
        elif k<.68: L.append('#pragma push_macro("A")\n#define A %s'%num() if 0 else '#pragma push_macro("A")\n#undef A\n#define A 5\n#pragma pop_macro("A")')
        elif d<4:
            b=R.choice(['#if %s'%expr(),'#ifdef %s'%R.choice(MAC+FUN),'#ifndef %s'%R.choice(MAC+FUN),'#if !defined(%s) && %s'%(R.choice(MAC),expr(2)),'#  if \\\n %s'%expr(2)])
            L.append(b+'\n'+marker()+'\n'+block(d+1))
            for _ in range(R.randrange(0,2)): L.append(R.choice(['#elif %s'%expr(1),'#elifdef %s'%R.choice(MAC),'#elifndef A'])+'\n'+marker()+'\n'+block(d+1))
            if R.random()<.5: L.append('#else // x\n'+marker()+'\n'+block(d+1))
            L.append(R.choice(['#endif','#endif /* x */','# endif // it']))
        else: L.append(marker())
    return '\n'.join(L)
def header(n):
    g='GUARD_%d'%n
    b=block(1)
    k=R.random()
    if k<.3: return '#ifndef %s\n#define %s\n%s\n#endif\n'%(g,g,b)
    if k<.4: return '/* c */\n#if !defined(%s)\n#define %s\n%s\n#endif // g\n'%(g,g,b)
    if k<.5: return '#pragma once\n'+b+'\n'
    if k<.55: return '#ifndef %s\n#define %s\n%s\n#endif\nint tail;\n'%(g,g,b)
    if k<.6: return '#ifndef %s\n#define %s\n%s\n#else\nint e;\n#endif\n'%(g,g,b)
    if k<.65: return '#pragma GCC system_header\n#if __INCLUDE_LEVEL__ < 5\n%s\n#endif'%b
    return '#if __INCLUDE_LEVEL__ < 5\n%s\n#endif%s'%(b,R.choice(['\n','']))
for i in range(N):
    w=f'{root}/{i}'; os.makedirs(w+'/m')
    for j in range(41): open(f'{w}/m/m{j}.h','w').write('')
    dirs=['d0','d1','d2','d3','d0/d2']
    for d in dirs: os.makedirs(f'{w}/{d}',exist_ok=True)
    os.symlink('d1',w+'/s0')
    for n in range(9):
        for d in dirs+['.']:
            if R.random()<.3:
                t=header(n)
                if R.random()<.1: t=t.replace('\n','\r\n')
                open(f'{w}/{d}/h{n}.h','w',newline='').write(t)
    if R.random()<.3:
        try: os.symlink('../d0/h0.h',w+'/d1/h0.h')
        except OSError: pass
    cxx=R.random()<.4
    src=R.choice(['main','d0/main','./main','d0/../main'])+('.cc' if cxx else '.c')
    p=f'{w}/{src}'
    t=PRO+block()+'\n'+block()+'\n'+(R.choice(RAW)+'\n' if R.random()<.3 else '')+block()+'\n'
    if R.random()<.1: t=t.replace('\n','\r\n')
    open(p,'w',newline='').write(t)
    a=['g++' if cxx else 'gcc']
    if R.random()<.6: a.append('-std='+R.choice(['c++98','c++11','gnu++14','c++17','c++20','gnu++23'] if cxx else ['gnu89','c99','gnu99','c11','gnu17','gnu2x','c2x']))
    cand=dirs+['.','s0','nodir',w+'/d1','d0/../d3','./d2']
    for _ in range(R.randrange(1,6)):
        f=R.choice(['-I','-I','-I','-iquote','-isystem','-idirafter']); a+=[f,R.choice(cand)]
    a+=['-I','.']
    if R.random()<.05: a.append('-I-')
    for _ in range(R.randrange(0,3)): a.append(R.choice(['-DA','-DB=0','-DC=A','-UA','-DF(x)=x','-D__GNUC__=3','-Ulinux']))
    if R.random()<.2: a+=[R.choice(['-include','-imacros']),R.choice(['m/m40.h','./m/m40.h'])]
    if R.random()<.1: a.append('-nostdinc')
    if R.random()<.2: a.append('-O2')
    out.write(json.dumps({"dir":w,"args":a+['-c',src]})+'\n')
